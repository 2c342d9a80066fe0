"""Keep an answer from ending too early, or at all: the tokens that end it are excluded until it is long enough."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class MinTokens:
    """Exclude ends while the answer is short, unless nothing else is left: a finished form (a schema) may always end."""

    class Config(Named):
        name: Literal["min_tokens"] = "min_tokens"
        tokens: int | None = Field(1, ge=0)
        """Tokens that the answer has at least; null: it never ends by itself."""
        ends: list[int] = Field([])
        """The tokens that end an answer."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        kept_RV = logits_RV.copy()
        for row_V, request in zip(kept_RV, seen, strict=True):
            if self.config.tokens is None or len(request.answer) < self.config.tokens:
                before = row_V[self.config.ends]
                row_V[self.config.ends] = -np.inf
                if row_V.max() == -np.inf:
                    row_V[self.config.ends] = before
        return kept_RV
