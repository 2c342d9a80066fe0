"""1 for an answer that is the known one, else 0; what is not told apart is told in metrics/exact_match.py."""

from collections.abc import Sequence
from typing import Literal

from danlu.metrics.exact_match import exact_match, plain
from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward
from danlu.train.rewards.part import part_of, truths


@REWARDS.register
class Exact(Reward):
    """A truth that is a JSON list of texts is matched by any of them."""

    needs_truth = True

    class Config(Reward.Config):
        name: Literal["exact"] = "exact"
        tag: str = ""
        """Judge only what stands between this tag and its end, as `answer` for <answer>...</answer>; empty: the whole answer."""
        mark: str = ""
        """Judge only what stands behind the last of this, as `####`; an answer without it is wrong. Empty: all of it."""
        match: Literal["whole", "start", "inside"] = "whole"
        """Whether the known answer must be all of what is judged, stand at its beginning, or anywhere inside it."""
        case: bool = False
        """Whether case is told apart."""
        punctuation: bool = True
        """Whether punctuation counts."""

    def score(self, asked: Sequence[Asked]) -> list[float]:
        return [self._one(one) for one in asked]

    def _one(self, one: Asked) -> float:
        config, said = self.config, part_of(one.answer, self.config.tag, self.config.mark)
        if said is None:
            return 0.0
        how = {"case": config.case, "punctuation": config.punctuation}
        if config.match == "whole":
            return float(exact_match(said, truths(one.truth), **how))
        text, true = plain(said, **how), [plain(truth, **how) for truth in truths(one.truth)]
        return float(any(truth and (text.startswith(truth) if config.match == "start" else truth in text) for truth in true))
