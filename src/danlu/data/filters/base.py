"""What a filter is: signals measured once a document, and rules that judge them by thresholds.

Thresholds are not part of what is measured, so they may change without reading the text again.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from danlu.core.settings import Named
from danlu.data.letters import Array
from danlu.data.texts import Texts


@dataclass(frozen=True)
class Rule:
    """Keep documents whose signal lies between two bounds; a signal that is not a number does not apply and passes."""

    name: str
    signal: str
    least: float | None = None
    most: float | None = None

    def drops(self, values: Array) -> Array:
        """Which of the values break the rule, as a mask."""
        low = values < self.least if self.least is not None else False
        high = values > self.most if self.most is not None else False
        return low | high  # type: ignore[return-value]  # at least one bound is given, so this is an array

    def threshold(self, value: float) -> float:
        """The bound that a dropped value broke."""
        if self.least is not None and value < self.least:
            return self.least
        assert self.most is not None
        return self.most


class Filter(ABC):
    """Measures signals and states rules about them."""

    version: ClassVar[int] = 1
    """Raise it when the meaning of a signal changes: documents measured before are then measured again."""
    profiles: ClassVar[tuple[str, ...]] = ("prose",)
    """Kinds of document that the rules apply to."""
    measured: ClassVar[tuple[str, ...]] = ()
    """Settings that change what is measured, not only where the thresholds lie."""

    class Config(Named):
        """Nothing to set."""

    def __init__(self, config: Any):
        self.config = config

    @abstractmethod
    def measure(self, texts: Texts) -> Mapping[str, Array]:
        """Signals of a batch, each float64 (D,)."""

    @abstractmethod
    def measure_plain(self, text: str) -> dict[str, float]:
        """The definition: the same signals of one document, in plain Python."""

    @abstractmethod
    def rules(self) -> Sequence[Rule]:
        """What a document must satisfy."""


def share(part: Array, whole: Array) -> Array:
    """part / whole, and 0 where the whole is nothing."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=np.asarray(whole) > 0)
