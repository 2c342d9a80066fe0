"""Whether people who judge the same things judge alike, beyond what chance would give.

Cohen's kappa (1960) for two annotators who judged the same units; Krippendorff's alpha (Content Analysis, 2004, chapter 11) for
labels without an order, any number of annotators, and units that not everybody judged.
"""

from collections import Counter
from collections.abc import Hashable, Sequence


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """1: always alike; 0: as often as chance would have it; nan where both know one label only, the same.

    Chance is that of two annotators who use each label as often as these two do.
    Raises ValueError for rows of unequal length or of none.

    >>> first = ["yes"] * 25 + ["no"] * 25
    >>> second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    >>> round(cohen_kappa(first, second), 3)
    0.4
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"expected two rows of equal, positive length, found {len(first)} and {len(second)} labels")
    count = len(first)
    seen = sum(one == two for one, two in zip(first, second, strict=True)) / count
    one, two = Counter(first), Counter(second)
    chance = sum(one[label] * two[label] for label in one) / count**2
    return (seen - chance) / (1 - chance) if chance < 1 else float("nan")


def krippendorff_alpha(units: Sequence[Sequence[Hashable | None]]) -> float:
    """1: always alike; 0: as often as chance would have it; below 0: less often.

    units: the labels that each unit was given, None where somebody did not judge it; units with fewer than two labels say
    nothing and are passed over. nan where no unit has two labels, or where all labels are the same.

    >>> round(krippendorff_alpha([("a", "a"), ("a", "b"), ("b", "b"), ("b", None)]), 3)
    0.444
    """
    pairable = [labels for unit in units if len(labels := [label for label in unit if label is not None]) > 1]
    totals = Counter(label for labels in pairable for label in labels)
    count = totals.total()
    alike = sum(
        times * (times - 1) / (len(labels) - 1) for labels in pairable for times in Counter(labels).values()
    )  # the diagonal of the coincidence matrix
    expected = count**2 - sum(times**2 for times in totals.values())
    return 1 - (count - 1) * (count - alike) / expected if expected else float("nan")


def observed(units: Sequence[Sequence[Hashable | None]]) -> float:
    """Share of pairs of labels of one unit that are the same, each unit weighing alike; nan without such pairs.

    >>> observed([("a", "a", "b"), ("b", "b", None), ("a", None, None)])
    0.6666666666666666
    """
    shares = []
    for unit in units:
        labels = [label for label in unit if label is not None]
        if len(labels) > 1:
            same = sum(times * (times - 1) for times in Counter(labels).values())
            shares.append(same / (len(labels) * (len(labels) - 1)))
    return sum(shares) / len(shares) if shares else float("nan")
