"""Memory that ran out while training: the same error whatever ran out, with what helps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from danlu.core.errors import OutOfMemory


@contextmanager
def advised(advice: str) -> Iterator[None]:
    """Raise OutOfMemory with the advice where the block runs out of memory, on any device."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"{str(error).splitlines()[0]}. {advice}") from None
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(f"memory ran out. {advice}") from None
