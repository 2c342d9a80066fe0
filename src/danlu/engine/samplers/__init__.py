"""Steps from logits to the next token, applied in one documented order: ORDER.

Every step maps float32 logits (R, V) of R requests to new logits (R, V); an excluded token gets minus infinity. They run in
NumPy: one row of logits is small, and on a processor NumPy's calls cost a fraction of a tensor library's.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from danlu.core.registry import Registry

SAMPLERS: Registry[Any] = Registry("sampler", __name__)

ORDER = ("repetition_penalty", "temperature", "top_k", "top_p", "min_p", "greedy")
"""The order in which the steps apply, whatever the order of the settings. top_p sees what top_k left over."""


class Sampler(Protocol):
    """What stands on the shelf: built from its Config, called with logits and what each request has seen so far."""

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[np.ndarray]) -> np.ndarray:
        """New logits. `seen` holds, for each request, the ids of its prompt and answer so far (int64, any length)."""
        ...


def softmax(logits_RV: np.ndarray) -> np.ndarray:
    """Probabilities (R, V) in float32; minus infinity becomes exactly zero."""
    weights = np.exp(logits_RV - logits_RV.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
