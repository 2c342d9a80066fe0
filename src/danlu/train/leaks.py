"""Whether packed texts see one another: one is changed, and its neighbours must not notice.

T tokens of a row, D width of the model.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.objectives.base import Batch

_ALLOWED = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Change in standard deviations that rounding may explain: kernels add in other orders for other shapes."""
_ALLOWED_SHORT = 5e-2
"""The same for types of 16 bits."""
_TEXTS = 3
"""Texts of a row that are looked at."""


@dataclass(frozen=True)
class Leak:
    """The largest effect of one text on another. change, allowed: in standard deviations of the model's vectors."""

    change: float
    allowed: float
    changed: int
    """Number of the sample that was changed."""
    neighbour: int
    """Number of the sample that noticed."""

    @property
    def found(self) -> bool:
        """Whether it is more than rounding."""
        return not self.change <= self.allowed


@torch.no_grad()
def packing_leak(model: Any, batch: Batch) -> Leak | None:
    """Look at the first row that holds two texts; None where no row does.

    Where texts begin is taken from the batch's origin and not from its documents, so that wrong documents show. Every token of
    one text is changed, for each in turn; besides, a later text must read as it does alone in a row.
    """
    row = next((at for at, origin in enumerate(batch.origin) if len(np.asarray(origin)) > 1), None)
    if row is None:
        return None
    origin = np.asarray(batch.origin[row])[:_TEXTS]
    ends = np.cumsum(origin[:, 2])
    texts = [slice(int(end - size), int(end)) for end, size in zip(ends, origin[:, 2], strict=True)]
    ids_1T = batch.ids[row : row + 1, : int(ends[-1])]
    documents_1T = None if batch.documents is None else batch.documents[row : row + 1, : int(ends[-1])]

    def read(ids: Tensor, documents: Tensor | None) -> Tensor:
        found: Tensor = model.hidden(ids, documents_BT=documents)[0].float()
        return found

    learning = model.training
    model.eval()
    try:
        before_TD = read(ids_1T, documents_1T)
        spread = float(before_TD.std()) or 1.0
        worst = Leak(0.0, _ALLOWED.get(model.activation_dtype, _ALLOWED_SHORT), int(origin[0, 0]), int(origin[1, 0]))
        for number, own in enumerate(texts):
            other_1T = ids_1T.clone()
            other_1T[:, own] = (other_1T[:, own] + 1) % model.vocab_size
            moved_TD = (read(other_1T, documents_1T) - before_TD).abs()
            seen = [(number, at, moved_TD[place]) for at, place in enumerate(texts) if at != number]
            if number:
                seen.append((0, number, (read(ids_1T[:, own], None) - before_TD[own]).abs()))
            for changed, at, difference in seen:
                if not (change := float(difference.max()) / spread) <= worst.change:
                    worst = Leak(change, worst.allowed, int(origin[changed, 0]), int(origin[at, 0]))
        return worst
    finally:
        model.train(learning)
