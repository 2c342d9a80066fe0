"""A penalty for answers outside a range of lengths, growing slowly beyond it: DAPO's soft over-long punishment.

0 inside; from there it falls to -1 over `margin` and stays there. Source: DAPO (arXiv:2503.14476), eq. 13, whose L_max is
`most + margin` here and whose L_cache is `margin`.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward


@REWARDS.register
class Length(Reward):
    """Between -1 and 0."""

    class Config(Reward.Config):
        name: Literal["length"] = "length"
        least: int = Field(0, ge=0)
        """Shorter answers lose value, all of it when they are empty."""
        most: int = Field(256, ge=0)
        """Longer answers lose value."""
        margin: int = Field(64, ge=0)
        """Over how much more the value falls from 0 to -1; 0: at once."""
        unit: Literal["tokens", "characters"] = "tokens"
        """What is counted."""

        @model_validator(mode="after")
        def _range(self) -> Self:
            if self.least > self.most:
                raise ValueError(f"least ({self.least}) is more than most ({self.most})")
            return self

    def score(self, asked: Sequence[Asked]) -> list[float]:
        lengths = [one.tokens if self.config.unit == "tokens" else len(one.answer) for one in asked]
        return [penalty(length, self.config.least, self.config.most, self.config.margin) for length in lengths]


def penalty(length: int, least: int, most: int, margin: int) -> float:
    """What a length is worth.

    >>> [penalty(length, 4, 10, 4) for length in (0, 3, 4, 10, 11, 14, 99)], penalty(11, 0, 10, 0)
    ([-1.0, -0.25, 0.0, 0.0, -0.25, -1.0, -1.0], -1.0)
    """
    if length < least:
        return -(least - length) / least
    over = length - most
    return 0.0 if over <= 0 else -min(1.0, over / margin) if margin else -1.0
