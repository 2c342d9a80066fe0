"""What a decoder sees of a source: its own document's part, by the plain definition of attention."""

import torch

from danlu.nn.attention import attend_plain
from danlu.nn.cross import Across, crossing


def test_attention_to_the_source_equals_the_definition_and_is_zero_where_there_is_none():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, 5, generator=generator) for length in (4, 7, 7))
    write, read = torch.tensor([[0, 0, 1, 2], [3, 3, 3, 3]]), torch.tensor([[0, 0, 0, 1, 1, 1, 1], [3] * 7])
    across = Across.of(torch.zeros(2, 7, 1), write, read)
    seen = crossing(write, read)
    wanted = attend_plain(q, k, v, seen).nan_to_num(0.0)  # an empty softmax has no value
    torch.testing.assert_close(across.attend(q, k, v), wanted)
    assert not across.attend(q, k, v)[0, :, 3].any() and across.blind.sum() == 1
