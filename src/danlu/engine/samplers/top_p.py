"""Keep the smallest set of most likely tokens that holds the mass p (Holtzman et al. 2019, arXiv:1904.09751)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen, first_of, weights


@SAMPLERS.register
class TopP:
    """Exclude the tail; the most likely token always stays. Of equals, smaller ids come first."""

    class Config(Named):
        name: Literal["top_p"] = "top_p"
        p: float = Field(0.95, gt=0, le=1)
        """Probability mass that stays."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        if self.config.p == 1:
            return logits_RV
        order_RV = np.argsort(-logits_RV, axis=-1, kind="stable")
        kept_RV = first_of(order_RV, weights(logits_RV), self.config.p)
        return np.where(kept_RV, logits_RV, np.float32(-np.inf))
