"""The score that a reward model gives to the conversation with the answer (made by `danlu align --objective.name reward`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from danlu.core.errors import BadSettings
from danlu.engine.heads import HeadedModel
from danlu.engine.model import load
from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward


@REWARDS.register
class Model(Reward):
    """Held in memory, never trained. Scores are the model's own: around 0, without bounds."""

    class Config(Reward.Config):
        name: Literal["model"] = "model"
        path: Path
        """Folder of the reward model, ours or transformers' with one label."""
        overlong: Literal["raise", "truncate"] = "raise"
        """Conversations longer than its context: stop with an error, or score their beginning."""

    def __init__(self, config: Any):
        super().__init__(config)
        opened = load(config.path)
        if not isinstance(opened, HeadedModel) or opened.task not in ("reward", "regress"):
            has = f"a head for {opened.task}" if isinstance(opened, HeadedModel) else "one that writes words"
            raise BadSettings(
                f"the reward model at {config.path} has no head that scores conversations, but {has}. Make one with "
                f"`danlu align MODEL DATASET -o REWARD_MODEL --objective.name reward`."
            )
        self.opened = opened

    def score(self, asked: Sequence[Asked]) -> list[float]:
        if not asked:
            return []
        talks = [[*one.prompt, {"role": "assistant", "content": one.answer}] for one in asked]
        return self.opened.score(talks, overlong=self.config.overlong)
