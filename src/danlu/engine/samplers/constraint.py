"""Keep what a constraint of the request (a schema, an expression, choices, a grammar) lets come next."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class Allowed:
    """Exclude all that the request does not allow now; requests without a constraint keep everything."""

    class Config(Named):
        name: Literal["constraint"] = "constraint"

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        kept_RV = logits_RV.copy()
        for row_V, request in zip(kept_RV, seen, strict=True):
            if request.allowed is not None:
                row_V[~request.allowed[: len(row_V)]] = -np.inf
        return kept_RV
