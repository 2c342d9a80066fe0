"""The draw of one token from logits: reproducible, because the chance of step n is a function of (seed, n) alone.

Nothing else is consulted: not what else runs, not whether the answer is streamed, not how often anybody asked before.
`pick` and `logprobs` are the definition; choose.py does the same for the engine, faster.
"""

from collections.abc import Sequence

import numpy as np

from danlu.core.seeds import derive
from danlu.engine.samplers import Sampler, Seen, weights
from danlu.engine.samplers.greedy import Greedy

_BITS = 53


class NoToken(Exception):
    """No token can be chosen from these logits: they are not numbers, or everything has been excluded."""


def chance(seed: int, step: int) -> float:
    """A number in [0, 1) for one step of one request.

    >>> chance(0, 5) == chance(0, 5) != chance(0, 6)
    True
    """
    return _bits(seed, step) / 2**_BITS


def _bits(seed: int, step: int) -> int:
    return derive(seed, "sample", step) >> 10


def drawn(weight_N: np.ndarray, seed: int, step: int) -> int:
    """The place in whole weights (N,), int64 with a positive sum, on which the chance of a step falls; exact. It uses them up."""
    reached_N = np.cumsum(weight_N, out=weight_N)
    return int(np.searchsorted(reached_N, _bits(seed, step) * int(reached_N[-1]) >> _BITS, side="right"))


def check(largest: np.floating) -> None:
    """Raise NoToken unless the largest logit of a row is a number: NaN anywhere in the row makes it NaN."""
    if np.isnan(largest) or largest == np.inf:
        raise NoToken("the model's numbers for the next token are not finite")
    if largest == -np.inf:
        raise NoToken("every token has been excluded: the constraint, logit_bias and the model's own probabilities leave none")


def pick(logits_V: np.ndarray, seen: Seen, chain: Sequence[Sampler], seed: int, step: int) -> int:
    """The next token: logits float32 (V,) through the chain, then the inverse of the cumulative distribution.

    Raises NoToken.
    """
    logits_1V = logits_V[None]
    check(logits_1V.max())
    for sampler in chain:
        logits_1V = sampler(logits_1V, [seen])
        check(logits_1V.max())
    if chain and isinstance(chain[-1], Greedy):  # one token is left: no draw is needed
        return int(logits_1V.argmax())
    return drawn(weights(logits_1V)[0], seed, step)


def logprobs(logits_V: np.ndarray, token: int, top: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """The natural logarithm of a token's probability, and the `top` likeliest tokens with theirs; of equals smaller ids first.

    The model's own: logits as they came, before any step of sampling.
    """
    with np.errstate(over="ignore"):
        below_V = logits_V - logits_V.max()
    below_V -= np.float32(np.log(np.exp(below_V).sum()))
    best = np.argsort(-below_V, kind="stable")[:top]
    return float(below_V[token]), tuple((int(number), float(below_V[number])) for number in best)


def pick_plain(logits: Sequence[float], chance: float) -> int:
    """The definition of the draw: walk the tokens in id order until their probabilities exceed the chance."""
    weights = [float(np.exp(np.float64(value))) for value in logits]
    walked = 0.0
    for token, weight in enumerate(weights):
        walked += weight / sum(weights)
        if walked > chance:
            return token
    return max(token for token, weight in enumerate(weights) if weight > 0)
