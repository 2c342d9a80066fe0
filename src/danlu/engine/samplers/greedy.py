"""Keep only the most likely token; of equals, the one with the smallest id."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class Greedy:
    """Always the first choice, so chance has no say."""

    class Config(Named):
        name: Literal["greedy"] = "greedy"

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        best_R = logits_RV.argmax(axis=-1)
        kept = np.full_like(logits_RV, -np.inf)
        rows = np.arange(len(best_R))
        kept[rows, best_R] = logits_RV[rows, best_R]
        return kept
