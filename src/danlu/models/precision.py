"""Mixed precision without autocast: matrices multiply in a short type, everything that adds up stays in float32.

Weights, their gradients, the residual stream, norms' statistics and the loss keep float32. A norm hands its result on in
the short type, and each matrix is rounded to the type of what it meets, once a use: that is one read of the weights where
autocast decides anew at every operation.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from danlu.models.base import LanguageModel


@contextmanager
def mixed(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Within the block the model multiplies in `dtype` (torch.bfloat16); None leaves it in its weights' own type.

    Works on a wrapped model too: it looks for the language models inside.
    """
    models = [part for part in model.modules() if isinstance(part, LanguageModel)]
    before = [part.compute_dtype for part in models]
    try:
        for part in models:
            part.compute_dtype = dtype
        yield
    finally:
        for part, was in zip(models, before, strict=True):
            part.compute_dtype = was
