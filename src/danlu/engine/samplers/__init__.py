"""Steps from logits to the next token, applied in one documented order: ORDER.

Every step maps float32 logits (R, V) of R requests to new logits (R, V); an excluded token gets minus infinity. They run in
NumPy: one row of logits is small, and on a processor NumPy's calls cost a fraction of a tensor library's. These files are the
definition; the engine runs choose.py, which finds the same tokens without looking at all of the vocabulary at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from danlu.core.registry import Registry

SAMPLERS: Registry[Any] = Registry("sampler", __name__)

ORDER = (
    "logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty", "constraint", "min_tokens",
    "temperature", "top_k", "typical_p", "top_p", "min_p", "greedy",
)  # fmt: skip
"""The order in which the steps apply, whatever the order of the settings. top_p sees what top_k left over."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a step may know about one request besides its logits."""

    ids: np.ndarray
    """Prompt and answer so far, int64, any length."""
    begin: int = 0
    """Where in them the answer begins."""
    allowed: np.ndarray | None = None
    """Booleans (V,): what the request's constraint lets come next; None: there is no constraint."""

    @property
    def answer(self) -> np.ndarray:
        """The answer so far."""
        return self.ids[self.begin :]


class Sampler(Protocol):
    """What stands on the shelf: built from its Config, called with logits and what each request has seen so far."""

    def __call__(self, logits_RV: np.ndarray, seen: Sequence[Seen]) -> np.ndarray:
        """New logits; those that came in are left alone."""
        ...


UNIT = 2**40
"""The weight of the likeliest token; a vocabulary of four million such tokens still sums within int64."""


def weights(logits_RV: np.ndarray) -> np.ndarray:
    """How likely tokens are beside the likeliest, int64 (R, V) in parts of UNIT; each row's largest logit must be finite.

    Whole numbers add up exactly, in any order and whether or not excluded tokens (weight 0) stand between: what is chosen
    cannot depend on how it was computed. Tokens 2^40 times less likely than the likeliest count as impossible.

    >>> weights(np.float32([[3, 3, -40]])) / UNIT
    array([[1., 1., 0.]])
    """
    with np.errstate(over="ignore"):  # differences beyond float32 are minus infinity, and so they should be
        return weights_below(logits_RV - logits_RV.max(axis=-1, keepdims=True))


def weights_below(below_RV: np.ndarray) -> np.ndarray:
    """The same from logits counted from their largest, which are used up."""
    np.exp(below_RV, out=below_RV)
    below_RV *= np.float32(UNIT)
    return below_RV.astype(np.int64)


def first_of(order_RV: np.ndarray, weight_RV: np.ndarray, share: float) -> np.ndarray:
    """Which tokens, taken in an order until together they weigh the share of all, were taken: booleans (R, V)."""
    sorted_RV = np.take_along_axis(weight_RV, order_RV, axis=-1)
    before_RV = np.cumsum(sorted_RV, axis=-1) - sorted_RV
    kept_RV = np.empty(order_RV.shape, bool)
    np.put_along_axis(kept_RV, order_RV, before_RV < share * sorted_RV.sum(axis=-1, keepdims=True), axis=-1)
    return kept_RV
