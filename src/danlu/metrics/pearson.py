"""Pearson's correlation: how nearly two rows of numbers lie on a line."""

import numpy as np
import numpy.typing as npt

from danlu.metrics import METRICS


@METRICS.register
def pearson(said: npt.ArrayLike, true: npt.ArrayLike) -> float:
    """From -1 to 1; nan where one side does not vary.

    >>> round(pearson([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]), 4)
    0.982
    """
    one, two = np.asarray(said, np.float64), np.asarray(true, np.float64)
    one, two = one - one.mean(), two - two.mean()
    spread = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / spread if spread else float("nan")
