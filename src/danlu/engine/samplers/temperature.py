"""Divide the logits: below 1 the likely become likelier, above 1 the unlikely get their chance."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.engine.samplers import SAMPLERS


@SAMPLERS.register
class Temperature:
    """Logits over the temperature."""

    class Config(Named):
        name: Literal["temperature"] = "temperature"
        temperature: float = Field(1.0, gt=0)
        """What logits are divided by; 1 leaves the model's own probabilities."""

    def __init__(self, config: Config):
        self.config = config

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[np.ndarray]) -> np.ndarray:
        return logits_RV / np.float32(self.config.temperature)
