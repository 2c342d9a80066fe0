"""Warm-up, stable, decay: a run that can be ended early by starting its decay (Hu et al. 2024, arXiv:2404.06395)."""

from typing import Literal

from pydantic import Field

from danlu.core.settings import Named
from danlu.train.schedules import SCHEDULES
from danlu.train.schedules.shape import climb, remaining


@SCHEDULES.register
class WSD:
    """Climb, stay, and come down over the last `decay` share of the run."""

    class Config(Named):
        """Lengths are shares of the whole run."""

        name: Literal["wsd"] = "wsd"
        warmup: float = Field(0.02, ge=0, le=1)
        """Share of the steps over which the rate climbs from zero."""
        decay: float = Field(0.6, ge=0, le=1)
        """Share of the steps over which the rate falls, at the end."""
        floor: float = Field(0.0, ge=0, le=1)
        """Where the rate would arrive after the last step, as a share of its peak."""
        shape: Literal["linear", "sqrt"] = "linear"
        """How it falls: evenly, or as one minus the square root of the share gone (steep first, flat at the end)."""

    def __init__(self, config: Config):
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        """Share of the peak rate at `step` (from 0) of `steps`."""
        config = self.config
        left = remaining(step, steps, steps * (1 - config.decay))
        fall = left if config.shape == "linear" else 1 - (1 - left) ** 0.5
        return climb(step, steps, config.warmup) * (config.floor + (1 - config.floor) * fall)
