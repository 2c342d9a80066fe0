"""Macro-F1: the mean over classes of the harmonic mean of precision and recall; rare classes weigh as much as common ones."""

import numpy as np
import numpy.typing as npt

from danlu.metrics import METRICS

Counts = npt.NDArray[np.int64]


@METRICS.register
def macro_f1(confusion: Counts) -> float:
    """From counts (true class, said class); a class that occurs nowhere is left out, one never met rightly counts zero.

    >>> macro_f1(np.array([[2, 0], [1, 1]]))
    0.7333333333333334
    """
    seen = confusion.sum(0) + confusion.sum(1) > 0
    return float(f1_by_class(confusion)[seen].mean()) if seen.any() else 0.0


def f1_by_class(confusion: Counts) -> npt.NDArray[np.float64]:
    """2 right / (true + said), by class; 0 where nothing was either."""
    found: npt.NDArray[np.float64] = 2 * confusion.diagonal() / np.maximum(confusion.sum(0) + confusion.sum(1), 1)
    return found


def confusion(said: npt.ArrayLike, true: npt.ArrayLike, classes: int) -> Counts:
    """How often each true class (row) was taken for each class (column).

    >>> confusion([0, 1, 1], [0, 1, 0], 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts = np.bincount(np.asarray(true) * classes + np.asarray(said), minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)
