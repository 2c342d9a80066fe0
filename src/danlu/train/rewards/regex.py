"""A value for answers that match a regular expression; several of them make a list of values."""

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward


@REWARDS.register
class Regex(Reward):
    """Looked for anywhere in the answer. Name the reward once for each pattern."""

    class Config(Reward.Config):
        name: Literal["regex"] = "regex"
        pattern: str
        """What is looked for; ^ and $ are beginning and end of a line."""
        found: float = 1.0
        """What an answer is worth that matches."""
        missed: float = 0.0
        """What an answer is worth that does not."""
        most: int = Field(1, ge=1)
        """Matches that count, each for `found`."""
        case: bool = False
        """Whether case is told apart."""

        @model_validator(mode="after")
        def _readable(self) -> Self:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"the pattern {self.pattern!r} is no regular expression: {error}") from None
            return self

    def score(self, asked: Sequence[Asked]) -> list[float]:
        pattern = re.compile(self.config.pattern, re.MULTILINE | (0 if self.config.case else re.IGNORECASE))
        counts = [sum(1 for _ in zip(range(self.config.most), pattern.finditer(one.answer))) for one in asked]
        return [self.config.found * count if count else self.config.missed for count in counts]
