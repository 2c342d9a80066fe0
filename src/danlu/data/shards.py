"""A dataset on disk: Parquet shards of documents, `train-00000.parquet`, ..., `validation-00000.parquet`, ...

The order of documents is the order of the shards' names and of the rows inside them. Labelled samples have further, typed
columns, those of their form (forms/): a file there adds a form, and `kind_of` here says what its columns are made of.
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
    sample: Mapping[str, Any] = field(default_factory=dict)
    """The columns of a labelled sample, by name; empty for plain text."""


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
            known = {name: row.pop(name) for name in _COLUMNS}
            yield Document(**{**known, "signals": dict(known["signals"])}, sample=row)


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


_COLUMNS = ("id", "source", "path", "line", "text", "licence", "language", "signals")


def sample_columns(dataset: Path) -> list[str]:
    """The columns that a dataset's samples have beside `text`; none for plain text."""
    import pyarrow.parquet as pq

    return [name for name in pq.read_schema(shard_paths(dataset)[0]).names if name not in _COLUMNS]


def kind_of(kind: str) -> Any:
    """The type of a sample's column: text, words (a list of short ones), or answers (text, and its first character's place)."""
    import pyarrow as pa

    kinds = {
        "text": pa.large_string(), "words": pa.list_(pa.string()),
        "answers": pa.list_(pa.struct([("text", pa.string()), ("start", pa.int64())])),
    }  # fmt: skip
    return kinds[kind]


def schema(columns: Mapping[str, str] | None = None) -> Any:
    """The columns of a shard, with those of a labelled sample (name to kind) behind the usual ones."""
    import pyarrow as pa

    more = [(name, kind_of(kind)) for name, kind in (columns or {}).items()]
    return pa.schema([
        ("id", pa.string()), ("source", pa.string()), ("path", pa.string()), ("line", pa.int64()), ("text", pa.large_string()),
        ("licence", pa.string()), ("language", pa.string()), ("signals", pa.map_(pa.string(), pa.float64())), *more,
    ])  # fmt: skip


class ShardWriter:
    """Writes the shards of one split; a new shard begins when the last holds `shard_bytes` of text."""

    def __init__(self, folder: Path, split: str, columns: Mapping[str, str] | None = None, shard_bytes: int = 256_000_000):
        self.folder, self.split, self.columns, self.shard_bytes = folder, split, columns, shard_bytes
        self._writer: Any = None
        self._shards = self._bytes = 0

    def write(self, table: Any) -> None:
        """Append the rows of a table with the columns of `schema(columns)`, as one row group."""
        import pyarrow.parquet as pq

        if not table.num_rows:
            return
        if self._writer is None:
            path = self.folder / f"{self.split}-{self._shards:05d}.parquet"
            self._writer = pq.ParquetWriter(path, schema(self.columns), compression="zstd", compression_level=3)
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
