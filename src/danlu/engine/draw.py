"""The draw of one token from logits: reproducible, because the chance of step n is a function of (seed, n) alone.

Nothing else is consulted: not what else runs, not whether the answer is streamed, not how often anybody asked before.
"""

from collections.abc import Sequence

import numpy as np

from danlu.core.seeds import derive
from danlu.engine.samplers import Sampler, softmax
from danlu.engine.samplers.greedy import Greedy


def chance(seed: int, step: int) -> float:
    """A number in [0, 1) for one step of one request.

    >>> chance(0, 5) == chance(0, 5) != chance(0, 6)
    True
    """
    return (derive(seed, "sample", step) >> 10) / 2**53


def pick(logits_V: np.ndarray, seen: np.ndarray, chain: Sequence[Sampler], seed: int, step: int) -> int:
    """The next token: logits float32 (V,) through the chain, then the inverse of the cumulative distribution."""
    logits_1V = logits_V[None]
    for sampler in chain:
        logits_1V = sampler(logits_1V, [seen])
    if chain and isinstance(chain[-1], Greedy):  # one token is left: no draw is needed
        return int(logits_1V.argmax())
    cumulative = np.cumsum(softmax(logits_1V)[0], dtype=np.float64)
    return int(np.searchsorted(cumulative, chance(seed, step) * cumulative[-1], side="right"))


def pick_plain(logits: Sequence[float], chance: float) -> int:
    """The definition of the draw: walk the tokens in id order until their probabilities exceed the chance."""
    weights = [float(np.exp(np.float64(value))) for value in logits]
    walked = 0.0
    for token, weight in enumerate(weights):
        walked += weight / sum(weights)
        if walked > chance:
            return token
    return max(token for token, weight in enumerate(weights) if weight > 0)
