"""What a reward is: something that looks at answers and gives each a number; and how several are added up.

To add one, write a file here: its Config extends `Reward.Config`, and `score` sees all answers of a step at once.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from danlu.core.errors import BadInput
from danlu.core.settings import Named
from danlu.train.rewards import REWARDS


@dataclass(frozen=True)
class Asked:
    """A prompt, an answer to it, and what is known to be right."""

    prompt: Sequence[Mapping[str, Any]]
    """Messages, each with role and content."""
    answer: str
    """What the model wrote, without the token that ends its turn."""
    truth: str = ""
    """The column `answer` of the dataset: a text, or JSON where a reward wants more."""
    ended: bool = True
    """Whether the model ended its turn by itself; else it ran out of tokens."""
    tokens: int = 0
    """Tokens that it wrote."""


class Reward(ABC):
    """Base of the rewards; built by `REWARDS.build(config)`."""

    needs_truth: ClassVar[bool] = False
    """Whether it compares with `Asked.truth`."""

    class Config(Named):
        """What every reward can be told."""

        weight: float = 1.0
        """What the reward is multiplied by before rewards are added up."""

    def __init__(self, config: Any):
        self.config = config

    def check(self, truth: str) -> None:
        """Raise BadInput for a known answer that it cannot compare with; asked before a run, of every prompt."""
        if self.needs_truth and not truth.strip():
            raise BadInput(
                f"the reward {self.config.name} compares with a known answer, and there is none. `danlu prepare SOURCE -o "
                f"DATASET --form verifiable` reads it from the field `answer`."
            )

    @abstractmethod
    def score(self, asked: Sequence[Asked]) -> list[float]:
        """A finite number for each answer, before the weight. Raises BadInput for a truth that cannot be read."""


@dataclass(frozen=True)
class Scores:
    """What a mix of rewards found for A answers."""

    total: list[float]
    """(A,) weighted sums."""
    parts: dict[str, list[float]]
    """(A,) each: the single rewards by name, before their weights."""


class Mix:
    """Several rewards as one: the weighted sum. A reward that is named twice appears as NAME and NAME#2."""

    def __init__(self, configs: Sequence[Any]):
        self.rewards: dict[str, Reward] = {}
        for config in configs:
            same = sum(name.partition("#")[0] == config.name for name in self.rewards)
            self.rewards[f"{config.name}#{same + 1}" if same else config.name] = REWARDS.build(config)

    @property
    def needs_truth(self) -> list[str]:
        """The rewards that compare with a known answer."""
        return [name for name, reward in self.rewards.items() if reward.needs_truth]

    def check(self, truths: Iterable[tuple[str, str]]) -> None:
        """Raise BadInput for the first known answer that a reward cannot compare with; truths: where each stands, and it."""
        for place, truth in truths:
            for reward in self.rewards.values():
                try:
                    reward.check(truth)
                except BadInput as wrong:
                    raise BadInput(f"{place}: {wrong.args[0]}") from None

    def score(self, asked: Sequence[Asked]) -> Scores:
        """Raises BadInput for a truth that cannot be read, or a reward that is not a number."""
        parts = {name: reward.score(asked) for name, reward in self.rewards.items()}
        for name, found in parts.items():
            if len(found) != len(asked) or not all(map(math.isfinite, found)):
                raise BadInput(f"the reward {name} gave {len(found)} value(s) for {len(asked)} answer(s), or one that is no "
                               f"finite number.")  # fmt: skip
        weights = {name: reward.config.weight for name, reward in self.rewards.items()}
        total = [sum(weights[name] * found[at] for name, found in parts.items()) for at in range(len(asked))]
        return Scores([float(one) for one in total], parts)
