"""Which document made a step sick: the step's documents are scored again one by one, and the worst is named.

Documents in a row do not see one another, so a document alone gives the loss that it gave in its row.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from danlu.data.tokens import TokenSet
from danlu.objectives.base import Batch
from danlu.train.parallel import Parallel

_BESIDE = ("documents", "source", "source_documents")
"""Tensors that are not cut along the text."""


@dataclass(frozen=True)
class Culprit:
    """A document and its mean loss in nats per token; NaN counts as worst."""

    document: int
    loss: float
    name: str

    def __str__(self) -> str:
        return f"{self.name}, loss {self.loss:.4g}"


def find_culprit(parallel: Parallel, micro: list[Batch], tokens: TokenSet) -> Culprit:
    """The worst document of a step over all processes, the same answer in each.

    Rows first, then the documents of the worst row. Every process runs equally many forward passes, so that sharded
    models can gather their weights.
    """
    rows = [row for batch in micro for row in _rows(batch)]
    worst = max(zip(_losses(parallel, rows), rows), key=lambda pair: _badness(pair[0]))[1]
    parts = list(_documents(worst))
    losses = _losses(parallel, [part for _, part in parts])
    document, loss = max(((document, loss) for (document, _), loss in zip(parts, losses)), key=lambda pair: _badness(pair[1]))
    document, loss = max(parallel.world.gather((document, loss)), key=lambda pair: _badness(pair[1]))
    return Culprit(document, loss, str(tokens.origin(document)))


@torch.no_grad()
def _losses(parallel: Parallel, batches: list[Batch]) -> list[float]:
    found = []
    for turn in range(parallel.world.most(len(batches))):
        batch = batches[min(turn, len(batches) - 1)]
        found.append(float(parallel.loss_sum(batch)) / max(batch.target_count, 1))
    return found[: len(batches)]


def _rows(batch: Batch) -> Iterator[Batch]:
    for row in range(len(batch.ids)):
        yield batch.rows(slice(row, row + 1))


def _documents(row: Batch) -> Iterator[tuple[int, Batch]]:
    """Each document of a row by itself: the columns with its number, of the source too."""
    assert row.documents is not None
    for number, (document, _, _) in enumerate(row.origin[0].tolist()):
        along = {name: part for name, part in row.tensors().items() if part.shape == row.ids.shape and name not in _BESIDE}
        own = {name: part[:, row.documents[0] == number] for name, part in along.items()}
        if row.source is not None and row.source_documents is not None:
            own["source"] = row.source[:, row.source_documents[0] == number]
        yield document, replace(row, **own, documents=None, source_documents=None, origin=[row.origin[0][:0]])


def _badness(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss
