"""Keep the k most likely tokens (Fan et al. 2018, arXiv:1805.04833); tokens as likely as the k-th stay too."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class TopK:
    """Exclude all that is less likely than the k-th."""

    class Config(Named):
        name: Literal["top_k"] = "top_k"
        k: int = Field(50, ge=1)
        """How many tokens stay; more than the vocabulary has keeps all."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        size = logits_RV.shape[-1]
        if self.config.k >= size:
            return logits_RV
        least_R1 = np.partition(logits_RV, size - self.config.k, axis=-1)[:, size - self.config.k, None]
        return np.where(logits_RV < least_R1, np.float32(-np.inf), logits_RV)
