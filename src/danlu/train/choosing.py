"""Which of a prompt's answers stay: the best (best-of-n), those that are good enough (rejection sampling), all, or a pair.

Every answer that does not stay has one reason. Source of the pair: West-of-N (Pace et al. 2024, arXiv:2401.12086).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from danlu.train.harvest import Answer

Keep = Literal["best", "above", "all", "pairs"]
REASONS = ("cut", "empty", "repeated", "below", "not the best", "no pair")
"""cut: it ran out of tokens. repeated: the same text as an answer before it. below: worth less than asked for. no pair: it is
neither the best nor the worst, or these are too close together."""


@dataclass(frozen=True)
class Rule:
    """What stays."""

    keep: Keep
    least: float | None = None
    """Answers (of a pair the better one) that are worth less do not stay."""
    margin: float = 0.0
    """By how much more than this the better answer of a pair must be worth."""
    cut: bool = False
    """Whether answers that ran out of tokens may stay."""
    most: int | None = None
    """Answers of a prompt that stay at most, the best of them."""


@dataclass(frozen=True)
class Chosen:
    """What stays of a prompt's answers, and why others do not."""

    kept: list[Answer]
    """The best first; of a pair the better one, then the worse."""
    dropped: Counter[str]


def choose(answers: Sequence[Answer], rule: Rule) -> Chosen:
    """Of answers that are worth the same the one that was written first goes first.

    >>> said = [Answer("a", 1, True, 0.0), Answer("b", 1, True, 1.0), Answer("b", 1, True, 1.0), Answer("c", 9, False, 2.0)]
    >>> [one.text for one in choose(said, Rule("best")).kept], dict(choose(said, Rule("best")).dropped)
    (['b'], {'repeated': 1, 'cut': 1, 'not the best': 1})
    >>> [one.text for one in choose(said, Rule("pairs", cut=True)).kept]
    ['c', 'a']
    """
    dropped: Counter[str] = Counter()
    fit: list[Answer] = []
    for one in answers:
        reason = "cut" if not (one.ended or rule.cut) else "empty" if not one.text.strip() else ""
        reason = reason or ("repeated" if any(one.text == other.text for other in fit) else "")
        if reason:
            dropped[reason] += 1
        else:
            fit.append(one)
    ranked = sorted(fit, key=lambda one: -one.reward)
    kept = _pair(ranked, rule) if rule.keep == "pairs" else _good(ranked, rule)
    below = sum(rule.least is not None and one.reward < rule.least for one in ranked) if rule.keep != "pairs" else 0
    rest = len(ranked) - len(kept) - below
    dropped += Counter({"below": below, "no pair" if rule.keep == "pairs" else "not the best": rest})
    return Chosen(kept, +dropped)


def _good(ranked: Sequence[Answer], rule: Rule) -> list[Answer]:
    good = [one for one in ranked if rule.least is None or one.reward >= rule.least]
    return good[: 1 if rule.keep == "best" else rule.most]


def _pair(ranked: Sequence[Answer], rule: Rule) -> list[Answer]:
    if len(ranked) < 2:
        return []
    best, worst = ranked[0], ranked[-1]
    enough = best.reward - worst.reward > rule.margin and (rule.least is None or best.reward >= rule.least)
    return [best, worst] if enough else []
