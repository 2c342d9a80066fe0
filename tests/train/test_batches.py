"""A step's rows are the same however many processes and micro-batches share them."""

import numpy as np
import pytest
from tests.train.small import token_set

from danlu.core.errors import BadSettings
from danlu.data.pack import Packer
from danlu.objectives import OBJECTIVES
from danlu.train.batches import Batches

CAUSAL = OBJECTIVES.build(OBJECTIVES["causal"].Config())


@pytest.fixture(scope="module")
def packer(tmp_path_factory):
    return Packer(token_set(tmp_path_factory.mktemp("tokens")), 13, seed=5)


@pytest.mark.parametrize("rows, micro_rows, size", [(6, 6, 1), (6, 2, 1), (7, 3, 1), (6, 2, 2), (7, 2, 2), (7, 1, 3), (3, 1, 2)])
def test_processes_and_micro_batches_share_a_step_in_order(packer, rows, micro_rows, size):
    shares = [Batches(packer, CAUSAL, rows, micro_rows, rank, size) for rank in range(size)]
    assert len({len(list(share.numbers(4))) for share in shares}) == 1, "equally many micro-batches, or exchanges would hang"
    numbers = np.concatenate([part for share in shares for part in share.numbers(4)])
    assert numbers.tolist() == list(range(4 * rows, 5 * rows))
    assert all(len(part) > 0 for share in shares for part in share.numbers(4))
    if size == 1:
        assert max(len(part) for part in shares[0].numbers(4)) <= micro_rows


def test_a_batch_holds_the_rows_it_names(packer):
    batch = Batches(packer, CAUSAL, 5, 5).step(2)[0]
    assert batch.ids.shape == batch.targets.shape == batch.documents.shape == (5, 13) and batch.target_count == 65
    for row, number in enumerate(range(10, 15)):
        assert batch.targets[row].tolist() == packer.served(number).targets.tolist()
        assert batch.origin[row].tolist() == packer.served(number).origin.tolist()


def test_more_processes_than_rows_are_refused(packer):
    with pytest.raises(BadSettings, match="2 rows, and 3 processes"):
        Batches(packer, CAUSAL, 2, 1, 0, 3)
