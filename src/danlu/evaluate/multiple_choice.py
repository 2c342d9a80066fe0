"""Multiple choice by log-likelihood: of several continuations, or of one behind several contexts, the likeliest is taken.

Figures are lm-eval's: acc by the log-likelihood, acc_norm by it over the characters of a choice, acc_bytes over its bytes,
acc_mutual_info by how much the context helps. N documents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from danlu.core.errors import BadInput
from danlu.evaluate.paired import Better, Figure, of_values
from danlu.evaluate.subject import Likelihood, Pair, Subject


@dataclass
class Choice:
    """One document, ready to be scored."""

    document: int
    asked: str
    choices: list[str]
    gold: list[int]
    pairs: list[Pair]
    alone: list[Pair] = field(default_factory=list)
    """The choices without the context, where a figure asks for them."""
    several: bool = False
    """Whether the gold was given as a list."""
    found: list[Likelihood] = field(default_factory=list)
    found_alone: list[Likelihood] = field(default_factory=list)

    @property
    def nats(self) -> np.ndarray:
        """Log-likelihood of each choice."""
        return np.array([one.nats for one in self.found])

    def said(self, by: np.ndarray | float = 1.0) -> int:
        """Which choice is taken, by log-likelihood over `by`; of equals the first."""
        return int((self.nats / by).argmax())


def gold_of(target: object, choices: Sequence[str], where: str) -> list[int]:
    """The right choices by number. Raises BadInput where one is not among them: the document is wrong, not the model."""
    listed = target if isinstance(target, list) else [target]
    found = [choices.index(one) if isinstance(one, str) and one in choices else one for one in listed]
    if not found or not all(isinstance(one, int) and 0 <= one < len(choices) for one in found):
        raise BadInput(f"{where}: the right answer is {target!r}, and the choices are {list(choices)!r}.")
    return [int(one) for one in found]  # type: ignore[call-overload]  # all are numbers


def score(subject: Subject, asked: Sequence[Choice]) -> None:
    """Ask for all choices of all documents at once."""
    found = iter(subject.likelihoods([pair for one in asked for pair in [*one.pairs, *one.alone]]))
    for one in asked:
        one.found = [next(found) for _ in one.pairs]
        one.found_alone = [next(found) for _ in one.alone]


def _acc(one: Choice) -> float:
    return float(one.said() in one.gold)


def _acc_norm(one: Choice) -> float:
    return float(one.said(np.array([float(len(choice)) for choice in one.choices])) in one.gold)


def _acc_bytes(one: Choice) -> float:
    return float(one.said(np.array([float(len(choice.encode())) for choice in one.choices])) in one.gold)


def _acc_mutual_info(one: Choice) -> float:
    return float(int((one.nats - np.array([other.nats for other in one.found_alone])).argmax()) in one.gold)


def _exact_match(one: Choice) -> float:
    return float(any(one.found[at].greedy for at in one.gold))


def _brier_score(one: Choice) -> float:
    likely = np.exp(one.nats - one.nats.max())
    true = np.zeros(len(one.choices))
    true[one.gold[0]] = 1
    return float(np.square(likely / likely.sum() - true).sum())


PER_DOCUMENT: dict[str, tuple[Callable[[Choice], float], Better]] = {
    "acc": (_acc, "higher"), "acc_norm": (_acc_norm, "higher"), "acc_bytes": (_acc_bytes, "higher"),
    "acc_mutual_info": (_acc_mutual_info, "higher"), "exact_match": (_exact_match, "higher"),
    "brier_score": (_brier_score, "lower"),
}  # fmt: skip
TWO_CLASSES = ("f1", "mcc")
METRICS = (*PER_DOCUMENT, *TWO_CLASSES)


def figure(name: str, asked: Sequence[Choice]) -> Figure:
    """One figure over all documents. Raises BadInput for f1 and mcc of more than two choices."""
    if name in PER_DOCUMENT:
        of, better = PER_DOCUMENT[name]
        return of_values(name, [of(one) for one in asked], better)
    if any(len(one.choices) != 2 or one.several for one in asked):
        raise BadInput(f"{name} is for two choices, the second being 'yes'; some document has more. Take acc.")
    said, true = (np.array(side, bool) for side in ([one.said() for one in asked], [one.gold[0] for one in asked]))
    parts_N4 = np.stack([said & true, said & ~true, ~said & true, ~said & ~true], 1).astype(np.float64)
    return Figure(name, parts_N4, _f1 if name == "f1" else _mcc)


def _f1(sums_D4: np.ndarray) -> np.ndarray:
    """2 right / (said + true); 0 where neither is."""
    both, said, true, _ = sums_D4.T
    return 2 * both / np.maximum(2 * both + said + true, 1)


def _mcc(sums_D4: np.ndarray) -> np.ndarray:
    """Matthews' correlation; 0 where a side is empty."""
    both, said, true, none = sums_D4.T
    below = np.sqrt((both + said) * (both + true) * (none + said) * (none + true))
    return (both * none - said * true) / np.where(below == 0, 1, below)
