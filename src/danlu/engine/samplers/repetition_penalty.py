"""Make tokens that were already seen less likely (CTRL, Keskar et al. 2019, arXiv:1909.05858, section 4.1)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class RepetitionPenalty:
    """Divide positive logits of seen tokens by the penalty and multiply negative ones, once however often they were seen."""

    class Config(Named):
        name: Literal["repetition_penalty"] = "repetition_penalty"
        penalty: float = Field(1.1, gt=0)
        """1 changes nothing; below 1 repetition is encouraged."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        changed_RV = logits_RV.copy()
        penalty = np.float32(self.config.penalty)
        for row_V, request in zip(changed_RV, seen, strict=True):
            found = row_V[request.ids]
            with np.errstate(over="ignore"):  # the draw refuses infinities by itself
                row_V[request.ids] = np.where(found > 0, found / penalty, found * penalty)
        return changed_RV
