"""Keep the smallest set of most likely tokens that holds the mass p (Holtzman et al. 2019, arXiv:1904.09751)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, softmax


@SAMPLERS.register
class TopP:
    """Exclude the tail; the most likely token always stays. Of equals, smaller ids come first."""

    class Config(Named):
        name: Literal["top_p"] = "top_p"
        p: float = Field(0.95, gt=0, le=1)
        """Probability mass that stays."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[np.ndarray]) -> np.ndarray:
        chance_RV = softmax(logits_RV)
        order_RV = np.argsort(-chance_RV, axis=-1, kind="stable")
        sorted_RV = np.take_along_axis(chance_RV, order_RV, axis=-1)
        before_RV = np.cumsum(sorted_RV, axis=-1, dtype=np.float64) - sorted_RV  # mass of all that is likelier
        kept_RV = np.empty(logits_RV.shape, bool)
        np.put_along_axis(kept_RV, order_RV, before_RV < self.config.p, axis=-1)
        return np.where(kept_RV, logits_RV, np.float32(-np.inf))
