"""Add to the logits of given tokens: to forbid a word, to favour one, to force a choice among few."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class LogitBias:
    """Logits of the tokens named, plus what is said of each."""

    class Config(Named):
        name: Literal["logit_bias"] = "logit_bias"
        bias: dict[int, float] = Field({})
        """What is added, by token id."""

    def __init__(self, config: Config):
        self.config = config
        self._ids = np.fromiter(config.bias.keys(), np.int64, len(config.bias))
        self._added = np.fromiter(config.bias.values(), np.float32, len(config.bias))

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        changed_RV = logits_RV.copy()
        changed_RV[:, self._ids] += self._added
        return changed_RV
