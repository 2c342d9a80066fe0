"""Keep tokens about as surprising as the model expects its next token to be (Meister et al. 2022, arXiv:2202.00666)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen, first_of, weights


@SAMPLERS.register
class TypicalP:
    """Exclude the tokens whose surprise is furthest from the expected one, the entropy. Of equals, smaller ids come first."""

    class Config(Named):
        name: Literal["typical_p"] = "typical_p"
        p: float = Field(0.95, gt=0, le=1)
        """Probability mass that stays."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        if self.config.p == 1:
            return logits_RV
        weight_RV = weights(logits_RV)
        order_RV = np.argsort(oddity(logits_RV, weight_RV), axis=-1, kind="stable")
        kept_RV = first_of(order_RV, weight_RV, self.config.p)
        return np.where(kept_RV, logits_RV, np.float32(-np.inf))


def oddity(logits_RV: np.ndarray, weight_RV: np.ndarray) -> np.ndarray:
    """How far each token's surprise is from the expected one, float64 (R, V) in nats; infinite for impossible tokens.

    Both are counted from the likeliest token's surprise. The expectation adds whole numbers, for the reason `weights` does.
    """
    with np.errstate(over="ignore"):
        surprise_RV = (logits_RV.max(axis=-1, keepdims=True) - logits_RV).astype(np.float64)
    possible_RV = weight_RV > 0
    share_RV = np.multiply(weight_RV, surprise_RV, where=possible_RV, out=np.zeros(weight_RV.shape))  # at most UNIT / e
    expected_R1 = share_RV.astype(np.int64).sum(axis=-1, keepdims=True) / weight_RV.sum(axis=-1, keepdims=True)
    return np.where(possible_RV, np.abs(surprise_RV - expected_R1), np.inf)
