"""What the judgements come to: one verdict a pair, who agrees with whom, and what may have swayed people besides the answers."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from danlu.apps.feedback.collection import Collection, Judgement, Pair
from danlu.metrics.agreement import cohen_kappa, krippendorff_alpha, observed
from danlu.metrics.interval import resampled, share

VERDICTS = ("preferred", "tie", "both bad", "disagreed", "skipped", "same answers", "not judged")
"""Everything that can become of a pair."""


@dataclass(frozen=True)
class Outcome:
    """A pair and its verdict."""

    pair: Pair
    verdict: str
    judgements: tuple[Judgement, ...]
    winner: int | None = None

    @property
    def supporters(self) -> list[Judgement]:
        """Those who said what holds."""
        return [one for one in self.judgements if one.winner is not None and one.winner == self.winner]


def outcomes(collection: Collection) -> list[Outcome]:
    """Every pair with what most of its annotators said; where as many said another thing they disagree."""
    judged: dict[str, list[Judgement]] = {}
    for one in collection.judgements():
        judged.setdefault(one.pair, []).append(one)
    return [outcome(pair, judged.get(pair.id, [])) for pair in collection.pairs()]


def outcome(pair: Pair, judgements: Sequence[Judgement]) -> Outcome:
    """The verdict on one pair."""
    said = tuple(judgements)
    if pair.same:
        return Outcome(pair, "same answers", said)
    votes = Counter(one.vote for one in said if one.vote is not None).most_common(2)
    if not votes:
        return Outcome(pair, "skipped" if said else "not judged", said)
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        return Outcome(pair, "disagreed", said)
    vote = votes[0][0]
    if vote in ("0", "1"):
        return Outcome(pair, "preferred", said, int(vote))
    return Outcome(pair, {"tie": "tie", "bad": "both bad"}[str(vote)], said)


def figures(found: Sequence[Outcome]) -> dict[str, Any]:
    """All statistics, as plain numbers; a share is {hits, trials, share, low, high} with its 95 % interval."""
    said = [one for each in found for one in each.judgements]
    return {
        "verdicts": {name: sum(each.verdict == name for each in found) for name in VERDICTS},
        "judgements": len(said), "annotators": {name: _annotator(said, name) for name in sorted({one.annotator for one in said})},
        "agreement": agreement(found), "first_shown_wins": _first(said), "longer_wins": _longer(found), "models": models(found),
        "chosen_cut": sum(not each.pair.answers[each.winner].ended for each in found if each.winner is not None),
    }  # fmt: skip


def agreement(found: Sequence[Outcome]) -> dict[str, Any]:
    """How far annotators agree on the pairs that two or more judged; votes are the better answer, tie and both bad."""
    units = [[one.vote for one in each.judgements if one.vote is not None] for each in found]
    units = [unit for unit in units if len(unit) > 1]
    alpha = resampled(lambda places: krippendorff_alpha([units[at] for at in places]), len(units)) if units else None
    return {
        "pairs": len(units), "observed": _number(observed(units)),
        "krippendorff_alpha": None if alpha is None else _number(alpha.value),
        "alpha_low": None if alpha is None else _number(alpha.low), "alpha_high": None if alpha is None else _number(alpha.high),
        "cohen_kappa": _kappas(found),
    }  # fmt: skip


def _kappas(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Cohen's kappa of every two annotators who judged two pairs or more together."""
    votes: dict[str, dict[str, str]] = {}
    for each in found:
        for one in each.judgements:
            if one.vote is not None:
                votes.setdefault(one.annotator, {})[each.pair.id] = one.vote
    told = []
    for first, second in combinations(sorted(votes), 2):
        both = [pair for pair in votes[first] if pair in votes[second]]
        if len(both) > 1:
            kappa = cohen_kappa([votes[first][pair] for pair in both], [votes[second][pair] for pair in both])
            told.append({"annotators": [first, second], "pairs": len(both), "kappa": _number(kappa)})
    return told


def models(found: Sequence[Outcome]) -> dict[str, Any] | None:
    """How often the second model's answer was the better one, of the pairs with a better one; None for a single model."""
    names = next(([answer.model for answer in each.pair.answers] for each in found), ["", ""])
    if names[0] == names[1]:
        return None
    decided = [each.winner for each in found if each.winner is not None]
    ties = sum(each.verdict in ("tie", "both bad") for each in found)
    return {"names": names, "second_wins": _share(sum(decided), len(decided)), "ties": ties}


def _first(said: Sequence[Judgement]) -> dict[str, Any]:
    """How often the answer shown first was taken: one half, where its place sways nobody."""
    decided = [one.choice for one in said if one.winner is not None]
    return _share(decided.count("first"), len(decided))


def _longer(found: Sequence[Outcome]) -> dict[str, Any]:
    """How often the longer answer was the better one."""
    sizes = [([len(answer.text) for answer in each.pair.answers], each.winner) for each in found if each.winner is not None]
    unequal = [(size, winner) for size, winner in sizes if size[0] != size[1]]
    return _share(sum(size[winner] > size[1 - winner] for size, winner in unequal), len(unequal))


def _annotator(said: Sequence[Judgement], name: str) -> dict[str, Any]:
    mine = [one for one in said if one.annotator == name]
    times = [one.seconds for one in mine if one.seconds is not None]
    counts = Counter(one.choice for one in mine)
    return {"judgements": len(mine), **{choice: counts[choice] for choice in ("first", "second", "tie", "bad", "skip")},
            "median_seconds": round(statistics.median(times), 2) if times else None}  # fmt: skip


def _share(hits: int, trials: int) -> dict[str, Any]:
    if not trials:
        return {"hits": 0, "trials": 0, "share": None, "low": None, "high": None}
    found, low, high = (round(figure, 4) for figure in share(hits, trials))
    return {"hits": hits, "trials": trials, "share": found, "low": low, "high": high}


def _number(value: float) -> float | None:
    """JSON knows no nan."""
    return None if math.isnan(value) else round(value, 4)
