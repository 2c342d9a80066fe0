"""Warm-up, then a straight line down to a floor."""

from typing import Literal

from pydantic import Field

from danlu.core.settings import Named
from danlu.train.schedules import SCHEDULES
from danlu.train.schedules.shape import climb, remaining


@SCHEDULES.register
class Linear:
    """The rate falls evenly from the end of the warm-up."""

    class Config(Named):
        """Lengths are shares of the whole run."""

        name: Literal["linear"] = "linear"
        warmup: float = Field(0.02, ge=0, le=1)
        """Share of the steps over which the rate climbs from zero."""
        floor: float = Field(0.0, ge=0, le=1)
        """Where the rate would arrive after the last step, as a share of its peak."""

    def __init__(self, config: Config):
        self.config = config

    def factor(self, step: int, steps: int) -> float:
        """Share of the peak rate at `step` (from 0) of `steps`."""
        config = self.config
        left = remaining(step, steps, round(config.warmup * steps))
        return climb(step, steps, config.warmup) * (config.floor + (1 - config.floor) * left)
