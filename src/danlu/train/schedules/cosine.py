"""Warm-up, then half a cosine down to a floor (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts)."""

import math
from typing import Literal

from pydantic import Field

from danlu.core.settings import Named
from danlu.train.schedules import SCHEDULES
from danlu.train.schedules.shape import climb, remaining


@SCHEDULES.register
class Cosine:
    """Slow at the top, fast in the middle, slow at the bottom."""

    class Config(Named):
        """Lengths are shares of the whole run."""

        name: Literal["cosine"] = "cosine"
        warmup: float = Field(0.02, ge=0, le=1)
        """Share of the steps over which the rate climbs from zero."""
        floor: float = Field(0.1, ge=0, le=1)
        """Where the rate would arrive after the last step, as a share of its peak."""

    def __init__(self, config: Config):
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        """Share of the peak rate at `step` (from 0) of `steps`."""
        config = self.config
        left = remaining(step, steps, round(config.warmup * steps))
        fall = 0.5 - 0.5 * math.cos(math.pi * left)
        return climb(step, steps, config.warmup) * (config.floor + (1 - config.floor) * fall)
