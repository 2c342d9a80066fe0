"""How well scores tell the better of two answers: accuracy beside what their lengths alone would tell, and how honest they are.

People often prefer the longer answer, so a reward model is worth something only above the length baselines. Both are given the
advantage: the better of `longer wins` and `shorter wins`, and the best of all length thresholds, each chosen on the very pairs
that it is judged by. P pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import BadInput
from danlu.data.shards import Document
from danlu.engine.heads import HeadedModel
from danlu.metrics.interval import Estimate, paired_difference, ratio, resampled
from danlu.objectives.answers import messages_of, tools_of
from danlu.objectives.reward import conversation_ids, prompt_ids

Array = NDArray[Any]
_BINS = 10


@dataclass(frozen=True)
class Pair:
    """What a model and a ruler say of a pair of answers."""

    chosen: float
    rejected: float
    chosen_tokens: int
    rejected_tokens: int


def judge(pairs: Sequence[Pair]) -> dict[str, Estimate]:
    """Figures of scores in nats of a Bradley-Terry model, with 95 % intervals over pairs.

    accuracy: how often the chosen answer has the higher score; a tie counts half. above_length: the lead over the best baseline.
    log_loss: nats a pair; log 2 says nothing. calibration_error: by how much a confidence misses the share that is right.
    Raises BadInput without pairs.
    """
    if not pairs:
        raise BadInput("there is no pair of answers to judge by. Give a dataset with pairs in this split.")
    up, down = (np.array([getattr(one, side) for one in pairs], np.float64) for side in ("chosen", "rejected"))
    long, short = (np.array([getattr(one, f"{side}_tokens") for one in pairs], np.int64) for side in ("chosen", "rejected"))
    right_P, margin_P, ones = wins(up, down), up - down, np.ones(len(pairs))
    by_length, by_threshold = length_wins(long, short), threshold_wins(long, short)
    better = max((by_length, by_threshold), key=lambda right: float(right.mean()))
    return {
        "accuracy": ratio(right_P, ones),
        "length_accuracy": ratio(by_length, ones),
        "threshold_accuracy": ratio(by_threshold, ones),
        "above_length": paired_difference(right_P, better, ones),
        "margin": ratio(margin_P, ones),
        "log_loss": ratio(np.logaddexp(0.0, -margin_P), ones),
        "calibration_error": resampled(lambda at: calibration_error(margin_P[at]), len(pairs)),
    }


def score(model: HeadedModel, documents: Sequence[Document], overlong: Any = "raise") -> list[Pair]:
    """What a reward model says of the pairs of a dataset, without those of equal answers and, where overlong is drop, long ones.

    Raises PromptTooLong, BadInput.
    """
    sides: list[tuple[list[Any], list[Any]]] = []
    tools, lengths = [], []
    for document in documents:
        prompt, offered = messages_of(document, "prompt"), tools_of(document)
        one, other = ([*prompt, *messages_of(document, column)] for column in ("chosen", "rejected"))
        ids = [conversation_ids(model.tokenizer, side, offered) for side in (one, other)]
        if ids[0] != ids[1] and (overlong != "drop" or max(map(len, ids)) <= model.context):
            asked = len(prompt_ids(model.tokenizer, prompt, offered))
            sides.append((one, other))
            lengths.append([len(part) - asked for part in ids])
            tools.append(offered)
    if not sides:
        return []
    kept: Any = "raise" if overlong in ("raise", "drop") else "truncate"
    chosen, rejected = (model.score([pair[side] for pair in sides], tools, kept) for side in (0, 1))
    return [Pair(*scores, *tokens) for *scores, tokens in zip(chosen, rejected, lengths, strict=True)]


def wins(first: Array, second: Array) -> Array:
    """1 where the first is larger, a half where both are equal, (P,)."""
    return (first > second) + 0.5 * (first == second)


def length_wins(chosen: Array, rejected: Array) -> Array:
    """Of `longer wins` and `shorter wins` the one that is right more often, (P,)."""
    longer = wins(chosen, rejected)
    return longer if longer.mean() >= 0.5 else 1 - longer


def threshold_wins(chosen: Array, rejected: Array) -> Array:
    """The best of all rules that prefer the longer answer up to a length and the shorter one where the longer exceeds it, or
    the other way round, (P,).

    >>> threshold_wins(np.array([5, 9, 10, 8]), np.array([4, 3, 20, 30]))
    array([1., 1., 1., 1.])
    """
    longer, most = wins(chosen, rejected), np.maximum(chosen, rejected)
    order = np.argsort(most, kind="stable")
    gained = np.concatenate([[0.0], np.cumsum(2 * longer[order] - 1)])  # of `longer` below the threshold, against `shorter`
    ends = np.concatenate([[0], np.flatnonzero(np.diff(most[order])) + 1, [len(order)]])  # between unequal lengths only
    gain = 2 * gained[ends] - gained[-1]
    best = int(np.abs(gain).argmax())
    below = np.zeros(len(longer), bool)
    below[order[: ends[best]]] = True
    rule = np.where(below, longer, 1 - longer)
    found: Array = rule if gain[best] >= 0 else 1 - rule
    return found


def calibration_error(margin_P: Array) -> float:
    """Mean distance of confidence from accuracy over ten bins of confidence, each weighed by its pairs (Guo et al. 2017,
    arXiv:1706.04599); the confidence in the preferred answer is the sigmoid of the margin's size."""
    sure, right = 1 / (1 + np.exp(-np.abs(margin_P))), wins(margin_P, np.zeros_like(margin_P))
    bins = np.minimum(((sure - 0.5) * 2 * _BINS).astype(int), _BINS - 1)
    found = [abs(float(sure[bins == one].mean() - right[bins == one].mean())) * float((bins == one).mean()) for one in set(bins)]
    return sum(found)
