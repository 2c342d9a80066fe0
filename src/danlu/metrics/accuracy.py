"""Accuracy: the share of answers that are right."""

from collections.abc import Hashable, Sequence

from danlu.metrics import METRICS


@METRICS.register
def accuracy(said: Sequence[Hashable], true: Sequence[Hashable]) -> float:
    """Raises ValueError for lists that are empty or of unequal length.

    >>> accuracy(["a", "b", "b"], ["a", "b", "a"])
    0.6666666666666666
    """
    if len(said) != len(true) or not true:
        raise ValueError(f"accuracy compares two lists of equal, positive length, found {len(said)} and {len(true)}")
    return sum(one == two for one, two in zip(said, true, strict=True)) / len(true)
