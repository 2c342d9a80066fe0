"""Keep tokens at least a fraction as likely as the most likely one (Nguyen et al. 2024, arXiv:2407.01082)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class MinP:
    """Exclude by ratio to the best: strict where the model is sure, open where it is not."""

    class Config(Named):
        name: Literal["min_p"] = "min_p"
        p: float = Field(0.05, ge=0, le=1)
        """Least probability relative to the most likely token's."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        if self.config.p == 0:
            return logits_RV
        least_R1 = logits_RV.max(axis=-1, keepdims=True) + np.float32(np.log(self.config.p))
        return np.where(logits_RV < least_R1, np.float32(-np.inf), logits_RV)
