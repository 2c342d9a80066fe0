"""Prefix language modelling asks for what lies behind the prefix, and shows it nothing of that."""

import numpy as np
import torch

from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.objectives.prefix import prefixes
from tests.objectives.rows import filled, learned, packed

TOKENIZER = learned()
OBJECTIVE = OBJECTIVES.build(OBJECTIVES["prefix"].Config(), TOKENIZER)


def test_every_target_lies_behind_its_prefix_and_every_piece_has_one(tmp_path):
    rows = packed(tmp_path, TOKENIZER, 31, 6)
    rows[3] = filled(rows[3], 20)
    batch = OBJECTIVE.batch(rows, range(6))
    assert batch.read.tolist() == [31, 31, 31, 20, 31, 31]
    for row, seen, targets in zip(rows, batch.prefix.numpy(), batch.targets.numpy(), strict=True):
        for number in np.unique(row.documents[row.targets != -100]):
            here = row.documents == number
            length = int(seen[here].sum())
            assert seen[here].tolist() == [True] * length + [False] * (here.sum() - length) and length
            asked = targets[here] != -100
            assert asked.tolist() == [False] * (length - 1) + [True] * (here.sum() - length + 1)
            assert (targets[here][asked] == row.targets[here][asked]).all()


def test_no_target_is_seen_by_the_place_that_asks_for_it(tmp_path):
    model = MODELS["qwen3"].tiny(vocab_size=TOKENIZER.vocab_size).eval()
    batch = OBJECTIVE.batch(packed(tmp_path, TOKENIZER, 31, 2), [3, 4])

    def losses(ids):
        hidden = model.hidden(ids, documents_BT=batch.documents, prefix_BT=batch.prefix)
        return torch.log_softmax(model.logits(hidden), -1)

    row, place = 1, int((batch.targets[1] != -100).nonzero()[0])  # the first that is asked for
    other = batch.ids.clone()
    other[row, place + 1] = (other[row, place + 1] + 1) % TOKENIZER.vocab_size
    before, after = losses(batch.ids), losses(other)
    torch.testing.assert_close(before[row, place], after[row, place], rtol=0, atol=0)
    earlier = batch.ids.clone()
    earlier[row, place] = (earlier[row, place] + 1) % TOKENIZER.vocab_size  # the last of the prefix, seen by its first
    assert place == 0 or (before[row, 0] - losses(earlier)[row, 0]).abs().max() > 1e-6


def test_every_length_of_prefix_is_as_likely(tmp_path):
    row = packed(tmp_path, TOKENIZER, 200, 1)[0]
    row = type(row)(row.ids[:5], row.targets[:5], np.zeros(5, np.int32), row.origin)
    found = np.bincount([int(prefixes(row, seed).sum()) for seed in range(2000)], minlength=6)
    assert found[0] == 0 and (abs(found[1:] - 400) < 80).all()
    assert np.array_equal(prefixes(row, 7), prefixes(row, 7))
