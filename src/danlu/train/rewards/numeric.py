"""1 for an answer whose number is the known one, else 0; how numbers are read is told in metrics/numbers.py."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from pydantic import Field

from danlu.core.errors import BadInput
from danlu.metrics.numbers import answer_number, near
from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward
from danlu.train.rewards.part import part_of


@REWARDS.register
class Numeric(Reward):
    """The number behind #### or inside \\boxed{}, else the last one of the answer."""

    needs_truth = True

    class Config(Reward.Config):
        name: Literal["numeric"] = "numeric"
        tag: str = ""
        """Judge only what stands between this tag and its end, as `answer` for <answer>...</answer>; empty: the whole answer."""
        mark: str = ""
        """Take the first number behind the last of this, and none without it; empty: behind #### or inside \\boxed{}, else the
        last number of all."""
        tolerance: float = Field(0.0, ge=0)
        """How far off still counts, as a part of the known number where that is larger than 1; 0: equal."""
        chinese: bool = False
        """Also read Chinese numerals, such as 三千零五 and 三分之二."""

    def check(self, truth: str) -> None:
        self._true(truth)

    def score(self, asked: Sequence[Asked]) -> list[float]:
        return [self._one(one) for one in asked]

    def _one(self, one: Asked) -> float:
        said = part_of(one.answer, self.config.tag)
        found = None if said is None else answer_number(said, mark=self.config.mark, chinese=self.config.chinese)
        true = self._true(one.truth)
        return 0.0 if found is None else float(near(found, true, self.config.tolerance))

    def _true(self, truth: str) -> Fraction:
        found = answer_number(truth, chinese=self.config.chinese)
        if found is None:
            raise BadInput(f"the reward numeric finds no number in the known answer {truth[:60]!r}. Numbers in words need "
                           f"`--rewards numeric:chinese=true`; other answers need another reward, such as exact.")  # fmt: skip
        return found
