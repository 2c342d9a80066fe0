"""Make tokens of the answer less likely once they have appeared, as OpenAI's API defines `presence_penalty`."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class PresencePenalty:
    """Logits less the penalty where the answer holds the token, however often; the prompt does not count."""

    class Config(Named):
        name: Literal["presence_penalty"] = "presence_penalty"
        penalty: float = Field(0.5, ge=-2, le=2)
        """Taken from the logit; below 0 repetition is encouraged."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        changed_RV = logits_RV.copy()
        for row_V, request in zip(changed_RV, seen, strict=True):
            row_V[np.unique(request.answer)] -= np.float32(self.config.penalty)
        return changed_RV
