"""Prefix language modelling (Raffel et al. 2020, arXiv:1910.10683, figure 4): a beginning is read both ways, the rest asked for.

A causal model of any family that can look both ways. Each piece of a document is cut at a place of its own; the tokens before
it see one another whole, and only those behind it are targets.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.pack import Row
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch, Objective, side_by_side


@OBJECTIVES.register
class Prefix(Objective):
    """A decoder that reads a beginning as an encoder would."""

    kind = "CausalLM"
    family = "qwen3"
    both_ways = True
    of_text = False

    class Config(Named):
        name: Literal["prefix"] = "prefix"  # type: ignore[assignment]  # narrows

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        batch = side_by_side(rows)
        batch.prefix = torch.from_numpy(np.stack([prefixes(row, seed) for row, seed in zip(rows, seeds, strict=True)]))
        batch.read = (batch.targets != NO_LABEL).sum(1)
        inner = batch.prefix & torch.cat([batch.prefix[:, 1:], torch.zeros_like(batch.prefix[:, :1])], dim=1)
        assert batch.documents is not None
        inner[:, :-1] &= batch.documents[:, :-1] == batch.documents[:, 1:]  # what follows a piece's last place is its target
        batch.targets = batch.targets.masked_fill(inner, NO_LABEL)
        return batch

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents, prefix_BT=batch.prefix)
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        return loss


def prefixes(row: Row, seed: int) -> np.ndarray:
    """(T,) booleans: of each piece at least its first token, and any longer beginning as likely."""
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero(np.diff(row.documents, prepend=row.documents[0] - 1))
    lengths = np.diff(np.append(starts, len(row.ids)))
    ends = starts + rng.integers(1, lengths, endpoint=True)
    return np.arange(len(row.ids)) < np.repeat(ends, lengths)
