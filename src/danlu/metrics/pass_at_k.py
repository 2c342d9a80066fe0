"""Pass at k: the chance that one of k programs passes, estimated without bias from n of them.

The same way of counting says what the best of k answers is worth. Source: Chen et al. 2021 (arXiv:2107.03374), eq. 1.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

from danlu.metrics import METRICS


@METRICS.register
def pass_at_k(programs: int, passed: int, k: int) -> float:
    """1 - C(n - c, k) / C(n, k) for n programs of which c passed. Raises ValueError unless 0 <= c <= n and 1 <= k <= n.

    >>> pass_at_k(5, 2, 1), pass_at_k(5, 2, 2), pass_at_k(5, 0, 5), pass_at_k(5, 4, 2)
    (0.4, 0.7, 0.0, 1.0)
    """
    if not (0 <= passed <= programs and 1 <= k <= programs):
        raise ValueError(f"no pass@{k} of {passed} in {programs}")
    return (math.comb(programs, k) - math.comb(programs - passed, k)) / math.comb(programs, k)


def best_of(values: Sequence[float], k: int) -> float:
    """Mean over all choices of k of n values of the largest among them: what best-of-k would have given.

    The i-th smallest value is the largest of C(i - 1, k - 1) choices. For values of 0 and 1 this is `pass_at_k`.

    >>> best_of([1.0, 3.0, 2.0], 1), best_of([1.0, 3.0, 2.0], 2), best_of([0, 1, 0, 1, 0], 2)
    (2.0, 2.6666666666666665, 0.7)
    """
    count = len(values)
    if not 1 <= k <= count:
        raise ValueError(f"no best of {k} among {count}")
    chosen = sum(value * math.comb(below, k - 1) for below, value in enumerate(sorted(map(Fraction, values))))
    return float(Fraction(chosen, math.comb(count, k)))
