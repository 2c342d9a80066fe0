"""The kernels compute what the definition says."""

import pytest
import torch

from danlu.nn import attention
from danlu.nn.attention import attend, attend_across, attend_plain
from danlu.nn.mask import Sight, positions, table


def parts(rows, heads, key_heads, tokens, reach, width=8):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(rows, heads, tokens, width, generator=generator)
    k, v = (torch.randn(rows, key_heads, reach, width, generator=generator) for _ in range(2))
    return [part.requires_grad_() for part in (q, k, v)]


def documents(*lengths):
    return torch.stack([torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in lengths])


@pytest.mark.parametrize(
    "sight",
    [
        Sight(7),
        Sight(1, start=4),
        Sight(3, start=5),
        Sight(7, 0, documents([7], [7], [7])),
        Sight(7, 0, documents([2, 5], [7], [1, 3, 3])),
        Sight(7, 0, documents([2, 5], [6, 1], [1, 3, 3])),
        Sight(7, causal=False),
        Sight(7, 0, documents([2, 5], [7], [1, 3, 3]), causal=False),
        Sight(7, window=3),
        Sight(1, start=6, window=3),
        Sight(7, 0, documents([2, 5], [7], [1, 3, 3]), window=2, sinks=1),
        Sight(7, causal=False, window=3),
        Sight(7, prefix_BT=torch.arange(7) < torch.tensor([[3], [0], [7]])),
    ],
)
@pytest.mark.parametrize(("heads", "key_heads"), [(2, 2), (6, 2), (5, 1)])
@pytest.mark.parametrize("way", ["apart", "whole rows apart", "masked"])
def test_kernels_equal_the_definition_with_gradients(sight, heads, key_heads, way, monkeypatch):
    monkeypatch.setattr(attention, "_LONG", 1024 if way == "masked" else 1)
    if way != "apart":
        monkeypatch.setattr(attention, "_separable", lambda q, sight: False)
    found, wanted = [], []
    for out, function, seen in ((found, attend, sight), (wanted, attend_plain, sight.table)):
        q, k, v = parts(3, heads, key_heads, sight.tokens, sight.start + sight.tokens)
        mixed = function(q, k, v, seen)
        mixed.square().sum().backward()
        out += [mixed, q.grad, k.grad, v.grad]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sight", [Sight(7), Sight(3, start=4), Sight(1, start=6), Sight(7, window=3), Sight(7, causal=False)])
def test_scale_bias_and_cap_do_what_the_definition_says(sight):
    q, k, v = parts(3, 6, 2, sight.tokens, 7)
    bias = torch.randn(6, sight.tokens, 7)
    for options in ({"scale": 0.3}, {"bias": bias}, {"bias": bias, "scale": 1.0}, {"softcap": 2.0, "scale": 0.7}):
        wanted = attend_plain(q, k, v, sight.table, **options)
        torch.testing.assert_close(attend(q, k, v, sight, **options), wanted, rtol=1e-4, atol=1e-5)
    score = (q @ k.repeat_interleave(3, 1).mT) * 0.7
    capped = (2.0 * torch.tanh(score / 2.0)).masked_fill(~sight.table, -torch.inf).softmax(-1) @ v.repeat_interleave(3, 1)
    torch.testing.assert_close(attend_plain(q, k, v, sight.table, softcap=2.0, scale=0.7), capped, rtol=1e-4, atol=1e-5)


def test_documents_taken_apart_keep_their_cap_and_see_nothing_of_one_another():
    sight = Sight(7, 0, documents([2, 5], [7], [1, 3, 3]))
    q, k, v = parts(3, 6, 2, 7, 7)
    options = {"softcap": 2.0, "scale": 0.7}
    found, wanted = attend(q, k, v, sight, **options), attend_plain(q, k, v, sight.table, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert [one.tokens for one in sight.apart] == [2, 5, 7, 1, 3, 3]
    (changed := v.detach().clone())[0, :, 4] += 9
    moved = (attend(q, k, changed, sight) != attend(q, k, v, sight)).any(-1).any(1)
    assert moved.nonzero().tolist() == [[0, 4], [0, 5], [0, 6]]


def test_across_sequences_nothing_is_hidden_but_what_is_said():
    q, k, v = parts(3, 6, 2, 4, 7)
    seen = torch.rand(3, 1, 4, 7, generator=torch.Generator().manual_seed(1)) < 0.5
    seen[..., 0] = True
    for options in ({}, {"bias": torch.randn(6, 4, 7), "scale": 1.0}):
        for mask in (None, seen):
            wanted = attend_plain(q, k, v, mask, **options)
            torch.testing.assert_close(attend_across(q, k, v, mask, **options), wanted, rtol=1e-4, atol=1e-5)


def test_a_token_sees_its_own_document_up_to_itself():
    seen = table(4, 0, documents([1, 3]))
    assert seen[0, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1]]


def test_positions_restart_with_each_document():
    assert positions(documents([1, 3, 2], [6])).tolist() == [[0, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 5]]


def test_numbers_of_documents_only_need_to_change():
    assert torch.equal(positions(documents([2, 3]) * 9 + 4), positions(documents([2, 3])))
