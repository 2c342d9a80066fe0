"""A dataset on disk: Parquet shards of documents, `train-00000.parquet`, ..., `validation-00000.parquet`, ...

The order of documents is the order of the shards' names and of the rows inside them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danlu.core.errors import NotAnArtifact

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Document:
    """One document of a dataset and where it came from."""

    id: str
    source: str
    path: str
    line: int
    """Line (or record) of the raw file at which the document begins, from 1."""
    text: str
    licence: str = "unknown"
    language: str = "und"
    signals: Mapping[str, float] = field(default_factory=dict)


def shard_paths(dataset: Path, split: str = "train") -> list[Path]:
    """The shards of a split in order; empty for a split that the dataset does not have."""
    if split not in SPLITS:
        raise ValueError(f"a dataset has the splits {' and '.join(SPLITS)}, not {split!r}")
    paths = sorted(Path(dataset).glob(f"{split}-*.parquet"))
    if not paths and not any(Path(dataset).glob("train-*.parquet")):
        raise NotAnArtifact(f"{dataset} holds no train-*.parquet. Give a folder that `danlu prepare` wrote.")
    return paths


def read_documents(dataset: Path, split: str = "train") -> Iterator[Document]:
    """Every document of a split, one at a time, always in the same order."""
    for batch in _batches(dataset, split, None):
        for row in batch.to_pylist():
            yield Document(**{**row, "signals": dict(row["signals"])})


def read_texts(dataset: Path, split: str = "train") -> Iterator[str]:
    """The texts of a split, in the order of `read_documents`."""
    for batch in _batches(dataset, split, ["text"]):
        yield from batch.column(0).to_pylist()


def count(dataset: Path, split: str = "train") -> dict[str, int]:
    """Documents, UTF-8 bytes and characters of a split."""
    import pyarrow.compute as pc

    total = {"documents": 0, "bytes": 0, "characters": 0}
    for batch in _batches(dataset, split, ["text"]):
        text = batch.column(0)
        total["documents"] += len(text)
        total["bytes"] += pc.sum(pc.binary_length(text)).as_py() or 0
        total["characters"] += pc.sum(pc.utf8_length(text)).as_py() or 0
    return total


def schema() -> Any:
    """The columns of a shard."""
    import pyarrow as pa

    return pa.schema([
        ("id", pa.string()), ("source", pa.string()), ("path", pa.string()), ("line", pa.int64()), ("text", pa.large_string()),
        ("licence", pa.string()), ("language", pa.string()), ("signals", pa.map_(pa.string(), pa.float64())),
    ])  # fmt: skip


class ShardWriter:
    """Writes the shards of one split; a new shard begins when the last holds `shard_bytes` of text."""

    def __init__(self, folder: Path, split: str, shard_bytes: int = 256_000_000):
        self.folder, self.split, self.shard_bytes = folder, split, shard_bytes
        self._writer: Any = None
        self._shards = self._bytes = 0

    def write(self, table: Any) -> None:
        """Append the rows of a table with the columns of `schema()`, as one row group."""
        import pyarrow.parquet as pq

        if not table.num_rows:
            return
        if self._writer is None:
            path = self.folder / f"{self.split}-{self._shards:05d}.parquet"
            self._writer = pq.ParquetWriter(path, schema(), compression="zstd", compression_level=3)
            self._shards, self._bytes = self._shards + 1, 0
        self._writer.write_table(table)
        self._bytes += table.column("text").nbytes
        if self._bytes >= self.shard_bytes:
            self.close()

    def close(self) -> None:
        """Finish the shard that is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _batches(dataset: Path, split: str, columns: list[str] | None) -> Iterator[Any]:
    import pyarrow.parquet as pq

    for path in shard_paths(dataset, split):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):  # the writer bounds a row group by bytes, and that bounds our memory
                yield from file.read_row_group(group, columns=columns).to_batches()
