"""What a dataset looks like, gathered while it is written: languages, licences, lengths. Bounded memory."""

from collections import Counter
from typing import Any

import numpy as np

from danlu.data.letters import Array

EDGES = tuple(round(10 ** (step / 4)) for step in range(29))
"""Bounds of the length histogram in characters, four a decade."""


class Statistics:
    """Sums over the documents that stay, and the histogram of those that go."""

    def __init__(self) -> None:
        self.languages: Counter[str] = Counter()
        self.licences: Counter[str] = Counter()
        self.by_source: dict[str, Counter[str]] = {}
        self.kept = np.zeros(len(EDGES), np.int64)
        self.gone = np.zeros(len(EDGES), np.int64)

    def see(self, table: Any, stays: Array) -> None:
        """Count the rows of a measured shard's row group."""
        lengths = table.column("characters").to_numpy()
        place = np.clip(np.searchsorted(EDGES, lengths, side="right") - 1, 0, len(EDGES) - 1)
        self.kept += np.bincount(place[stays], minlength=len(EDGES))
        self.gone += np.bincount(place[~stays], minlength=len(EDGES))
        size = table.column("bytes").to_numpy()
        for name, counter in (("language", self.languages), ("licence", self.licences)):
            for value, bytes_, stay in zip(table.column(name).to_pylist(), size, stays, strict=True):
                if stay:
                    counter[value] += int(bytes_)
        for source, licence, stay in zip(
            table.column("source").to_pylist(), table.column("licence").to_pylist(), stays, strict=True
        ):
            if stay:
                self.by_source.setdefault(source, Counter())[licence] += 1
