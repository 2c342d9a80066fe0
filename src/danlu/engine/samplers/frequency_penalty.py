"""Make tokens of the answer less likely each time they appear, as OpenAI's API defines `frequency_penalty`."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class FrequencyPenalty:
    """Logits less the penalty times how often the answer holds the token; the prompt does not count."""

    class Config(Named):
        name: Literal["frequency_penalty"] = "frequency_penalty"
        penalty: float = Field(0.5, ge=-2, le=2)
        """Taken from the logit for each appearance; below 0 repetition is encouraged."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        changed_RV = logits_RV.copy()
        for row_V, request in zip(changed_RV, seen, strict=True):
            ids, counts = np.unique(request.answer, return_counts=True)
            row_V[ids] -= np.float32(self.config.penalty) * counts.astype(np.float32)
        return changed_RV
