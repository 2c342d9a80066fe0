"""Memory that runs out is one error, whatever ran out, and no other error is taken for it."""

import pytest
import torch

from danlu.core.errors import OutOfMemory
from danlu.train.memory import advised


@pytest.mark.parametrize("raised", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.\nand more"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
])  # fmt: skip
def test_memory_that_runs_out_comes_with_advice(raised):
    with pytest.raises(OutOfMemory, match="take fewer rows") as told, advised("take fewer rows"):
        raise raised
    assert "and more" not in str(told.value)


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="shapes differ"), advised("take fewer rows"):
        raise RuntimeError("shapes differ")
