"""Divide the logits: below 1 the likely become likelier, above 1 the unlikely get their chance."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS, Seen


@SAMPLERS.register
class Temperature:
    """Logits over the temperature, counted from the largest: it becomes 0, and no temperature is too small to divide by."""

    class Config(Named):
        name: Literal["temperature"] = "temperature"
        temperature: float = Field(1.0, gt=0)
        """What logits are divided by; 1 leaves the model's own probabilities."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        with np.errstate(over="ignore"):
            return (logits_RV - logits_RV.max(axis=-1, keepdims=True)) / divisor(self.config.temperature)


def divisor(temperature: float) -> np.float32:
    """The temperature in float32, where the smallest ones would be zero."""
    return max(np.float32(temperature), np.finfo(np.float32).tiny)
