"""Text that a model has not learned from: the held-out parts of the data sets that its record leads to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from danlu.core import lineage


def unseen(model: Path, tokens: int, plain: bool = False) -> tuple[list[Any], Path | None, lineage.Lineage | None]:
    """Texts of the nearest data set with a held-out part, its folder and record; nothing where nothing leads to any.

    plain: only of data sets of running text, whose documents are no samples of a task.
    """
    from danlu.data.shards import read_documents, sample_columns
    from danlu.evaluate.text import Text

    for place, record in datasets(model):
        if plain and sample_columns(place):
            continue
        found = [Text(one.id, one.text) for one in first(read_documents(place, "validation"), tokens) if one.text.strip()]
        if found:
            return found, place, record
    return [], None, None


def datasets(model: Path) -> Iterator[tuple[Path, lineage.Lineage]]:
    """Data sets that a model was made from and that are still there, nearest first."""
    if not (model / lineage.NAME).is_file():
        return
    found = [(depth, source, record) for depth, source, record in lineage.trace(model) if source and record]
    for _, source, record in sorted(found, key=lambda one: one[0]):
        if record.kind == "dataset":
            place = Path(source.path)
            yield place if place.is_absolute() else model / place, record


def first(documents: Iterator[Any], tokens: int) -> Iterator[Any]:
    """Documents until they must hold so many tokens, at a byte each."""
    taken = 0
    for one in documents:
        yield one
        taken += len(one.text.encode()) // 16  # no vocabulary here joins more on average
        if taken > tokens:
            return
