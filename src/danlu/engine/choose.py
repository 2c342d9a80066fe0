"""The next token of many requests at once, each with its own settings: what the engine calls once a step.

    choose(logits_RV, asks, known=None) -> list[Chosen | Exception]        one for each ask, in order
        logits_RV   float32 (R, V), or R rows (V,); never written to
        asks        R of Ask; a request whose guesses are to be checked has one for each position
        known       tokens of the tokenizer: rows of the model's table beyond are padding and never chosen

A row that cannot be chosen from (draw.py's NoToken: NaN, everything excluded) is answered with its exception, alone.

The result is that of draw.py's `pick` and `logprobs` row by row, to the last bit, which is possible because likelihoods are
whole numbers there: leaving out excluded tokens changes no sum. Here the likeliest are found without sorting a vocabulary
and, once found, nothing else is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from danlu.engine.draw import check, drawn
from danlu.engine.request import Sampling
from danlu.engine.samplers import weights, weights_below
from danlu.engine.samplers.temperature import divisor
from danlu.engine.samplers.typical_p import oddity

_FEW = 128
"""How many of the likeliest are looked at first when it is not known how many will be needed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What decides the next token of one request, besides the logits."""

    sampling: Sampling
    seed: int
    """sampling.seed, or that of one of several choices."""
    step: int
    """Which token of the answer this is, from 0."""
    ids: np.ndarray
    """Prompt and answer so far, int64; only read."""
    begin: int
    """Where in them the answer begins."""
    ends: frozenset[int] = frozenset()
    """Tokens that end an answer; excluded while min_tokens and ignore_eos keep it open."""
    allowed: np.ndarray | None = None
    """Booleans for each token: what the constraint allows now; None: no constraint."""
    logprobs: int | None = None
    """Log-probabilities wanted, with so many of the likeliest beside; None: none."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The token, and what was asked about it."""

    token: int
    logprob: float | None = None
    """Natural logarithm of its probability before sampling changed it; minus infinity is possible."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens with theirs, likeliest first; of equals smaller ids first."""


def choose(
    logits_RV: np.ndarray | Sequence[np.ndarray], asks: Sequence[Ask], known: int | None = None
) -> list[Chosen | Exception]:
    """See above."""
    return [_answered(row_V[:known], ask) for row_V, ask in zip(logits_RV, asks, strict=True)]


def _answered(row_V: np.ndarray, ask: Ask) -> Chosen | Exception:
    try:
        token = _token(row_V, ask)
        return Chosen(token) if ask.logprobs is None else Chosen(token, *logprobs(row_V, token, ask.logprobs))
    except Exception as error:  # whatever is wrong with one row is no matter of the others
        return error


def logprobs(logits_V: np.ndarray, token: int, top: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """What draw.logprobs says, without sorting the vocabulary."""
    with np.errstate(over="ignore"):
        below_V = logits_V - logits_V.max()
    below_V -= np.float32(np.log(np.exp(below_V).sum()))
    best = _likeliest(below_V, top)
    return float(below_V[token]), tuple(zip(best.tolist(), below_V[best].tolist(), strict=True))


def _token(row_V: np.ndarray, ask: Ask) -> int:
    sampling = ask.sampling
    logits_V = _adjusted(row_V, ask)
    if sampling.temperature == 0:
        token = int(logits_V.argmax())  # of NaN the first
        check(logits_V[token])
        return token
    largest = logits_V.max()
    check(largest)
    with np.errstate(over="ignore"):
        if sampling.temperature != 1:
            logits_V = logits_V - largest
            logits_V /= divisor(sampling.temperature)
        if not _narrowed(sampling, len(logits_V)):  # what is left below would only copy the vocabulary
            below_V = logits_V if sampling.temperature != 1 else logits_V - largest
            return drawn(weights_below(below_V), ask.seed, ask.step)
    return _drawn(logits_V, ask)


def _narrowed(sampling: Sampling, size: int) -> bool:
    """Whether some tokens are left out by how likely they are."""
    few = sampling.top_k is not None and sampling.top_k < size
    return few or sampling.typical_p < 1 or sampling.top_p < 1 or sampling.min_p > 0


def _adjusted(row_V: np.ndarray, ask: Ask) -> np.ndarray:
    """Logits after the steps that come before temperature; the same array where no step applies."""
    sampling, ends = ask.sampling, ask.ends
    held = bool(ends) and sampling.holds_open(len(ask.ids) - ask.begin)
    penalised = sampling.repetition_penalty != 1 or sampling.frequency_penalty or sampling.presence_penalty
    if not (held or penalised or sampling.logit_bias or ask.allowed is not None):
        return row_V
    check(row_V.max())  # what is excluded below could hide NaN
    logits_V = row_V.copy()
    if bias := sampling.logit_bias:
        logits_V[np.fromiter(bias.keys(), np.int64, len(bias))] += np.fromiter(bias.values(), np.float32, len(bias))
    if penalised:
        _penalise(logits_V, ask)
    if ask.allowed is not None:
        logits_V[~ask.allowed[: len(logits_V)]] = -np.inf
    if held:
        tokens = sorted(ends)
        before = logits_V[tokens]
        logits_V[tokens] = -np.inf
        if logits_V.max() == -np.inf:
            logits_V[tokens] = before
    return logits_V


def _penalise(logits_V: np.ndarray, ask: Ask) -> None:
    """Change logits in place as repetition, frequency and presence penalty do."""
    sampling = ask.sampling
    if sampling.repetition_penalty != 1:
        found, penalty = logits_V[ask.ids], np.float32(sampling.repetition_penalty)
        with np.errstate(over="ignore"):
            changed = np.where(found > 0, found / penalty, found * penalty)
        logits_V[ask.ids] = changed
        if len(changed) and changed.max() == np.inf:
            check(np.float32(np.inf))
    if sampling.frequency_penalty or sampling.presence_penalty:
        ids, counts = np.unique(ask.ids[ask.begin :], return_counts=True)
        if sampling.frequency_penalty:
            logits_V[ids] -= np.float32(sampling.frequency_penalty) * counts.astype(np.float32)
        if sampling.presence_penalty:
            logits_V[ids] -= np.float32(sampling.presence_penalty)


def _drawn(logits_V: np.ndarray, ask: Ask) -> int:
    """The draw among what top_k, typical_p, top_p and min_p leave; tokens left out are no longer carried along."""
    sampling = ask.sampling
    left_N, logits_N, weight_N = None, logits_V, None  # ids, logits and weights of the tokens left; None: all, not computed yet

    def keep(kept: np.ndarray) -> None:
        nonlocal left_N, logits_N, weight_N
        left_N = kept if left_N is None else left_N[kept]
        logits_N = logits_N[kept]
        weight_N = None if weight_N is None else weight_N[kept]

    if sampling.top_k is not None and sampling.top_k < len(logits_V):
        keep(np.flatnonzero(logits_N >= _nth_largest(logits_N, sampling.top_k)))
    if sampling.typical_p < 1:
        weight_N = weights(logits_N)
        keep(_nucleus(-oddity(logits_N, weight_N), weight_N, sampling.typical_p))
        weight_N = None  # the likeliest, of which weights are parts, may have gone
    if sampling.top_p < 1:
        weight_N = weights(logits_N)
        keep(_nucleus(logits_N, weight_N, sampling.top_p))
    if sampling.min_p > 0:
        keep(np.flatnonzero(logits_N >= logits_N.max() + np.float32(np.log(sampling.min_p))))
    place = drawn(weights(logits_N) if weight_N is None else weight_N, ask.seed, ask.step)
    return place if left_N is None else int(left_N[place])


def _nucleus(rank_N: np.ndarray, weight_N: np.ndarray, share: float) -> np.ndarray:
    """Places of the tokens of highest rank that together weigh the share, ascending: samplers' `first_of`."""
    enough = share * weight_N.sum()
    size = _FEW
    while True:
        near = np.flatnonzero(rank_N >= _nth_largest(rank_N, size)) if size < len(rank_N) else np.arange(len(rank_N))
        if len(near) == len(rank_N) or weight_N[near].sum() >= enough:
            break
        size *= 8
    order = near[np.argsort(-rank_N[near], kind="stable")]
    reached = np.cumsum(weight_N[order])
    return np.sort(order[reached - weight_N[order] < enough])


def _likeliest(values_N: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest values, largest first; of equals smaller places first."""
    if count == 0:
        return np.empty(0, np.int64)
    near = np.flatnonzero(values_N >= _nth_largest(values_N, count)) if count < len(values_N) else np.arange(len(values_N))
    return near[np.argsort(-values_N[near], kind="stable")[:count]]


def _nth_largest(values_N: np.ndarray, n: int) -> np.floating:
    """The n-th largest value, 1 <= n <= N.

    The n-th largest among the best of many small groups is no larger, and few values are as large as that: partitioning those
    is ten times faster than partitioning all.
    """
    size = len(values_N) // (8 * n)  # of a group
    if size >= 4:
        groups = len(values_N) // size
        best = values_N[: size * groups].reshape(size, groups).max(axis=0)
        values_N = values_N[values_N >= np.partition(best, groups - n)[groups - n]]
    return np.partition(values_N, len(values_N) - n)[len(values_N) - n]
