"""How early the right things stand in a ranking: recall at k, and the mean reciprocal rank."""

import numpy as np
import numpy.typing as npt

from danlu.metrics import METRICS


@METRICS.register
def retrieval(scores_QD: npt.NDArray[np.float64], relevant_QD: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The rank, from 1, of each query's first relevant document, (Q,); 0 where there is none. Ties count against it.

    >>> retrieval(np.array([[0.9, 0.5, 0.1]]), np.array([[False, True, True]])).tolist()
    [2]
    """
    best_Q = np.where(relevant_QD, scores_QD, -np.inf).max(1)
    ahead_Q = ((scores_QD >= best_Q[:, None]) & ~relevant_QD).sum(1)
    found: npt.NDArray[np.int64] = np.where(relevant_QD.any(1), ahead_Q + 1, 0)
    return found


def hits(ranks_Q: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    """Whether a relevant document stands among the first k, by query; the mean is recall at k in the sense of "success".

    >>> hits(np.array([1, 4, 0]), 3).tolist()
    [1.0, 0.0, 0.0]
    """
    found: npt.NDArray[np.float64] = ((ranks_Q > 0) & (ranks_Q <= k)).astype(np.float64)
    return found


def reciprocal(ranks_Q: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """1 / rank by query, 0 for a query that has none; the mean is the mean reciprocal rank."""
    found: npt.NDArray[np.float64] = np.where(ranks_Q > 0, 1 / np.maximum(ranks_Q, 1), 0.0)
    return found
