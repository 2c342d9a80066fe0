"""Token shards: documents as numbers, memory-mapped, with a table that leads every token back to its file and line.

A folder holds parts (`part-00000.bin` with the tokens of some documents end to end, `part-00000.parquet` with their rows)
and `tokens.json`, written last: without it the folder is unfinished, and writing goes on after the last whole part.
Each document is stored as bos + tokens + eos. Nothing is cut and nothing is dropped.
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from danlu.core import files, log
from danlu.core.errors import DamagedArtifact, NoUsableText

Ids = NDArray[Any]
Encode = Callable[[list[Any]], Sequence[Ids]]
PART_TOKENS = 1 << 25
"""Tokens after which a part ends at the next document; bounds memory and what a crash can cost."""
_BATCH_CHARACTERS = 1 << 20


class Text(Protocol):
    """What a document must offer to be stored."""

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Origin:
    """Where a stored document came from; `bytes` is its text in UTF-8."""

    id: str
    source: str
    path: str
    line: int
    bytes: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} (document {self.id})"


class TokenSet:
    """The documents of one split as tokens, read in place from disk."""

    def __init__(self, folder: Path, facts: dict[str, Any]):
        self.folder, self.facts = folder, facts
        self.dtype = np.dtype(facts["dtype"])
        names = [_names(folder, index) for index in range(facts["parts"])]
        self._parts = [
            np.memmap(tokens, self.dtype, "r") if tokens.stat().st_size else np.empty(0, self.dtype) for tokens, _ in names
        ]
        columns = [_columns(table, ["tokens", "bytes"]) for _, table in names]
        none = np.empty(0, np.int64)
        self.lengths = np.concatenate([none, *(part["tokens"] for part in columns)])
        """Stored tokens of each document, bos and eos included."""
        self.text_bytes = np.concatenate([none, *(part["bytes"] for part in columns)])
        """UTF-8 bytes of each document's text."""
        counts = [len(part["tokens"]) for part in columns]
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        starts = [np.cumsum(part["tokens"]) - part["tokens"] for part in columns]
        self._starts = np.concatenate([none, *starts])

    @classmethod
    def open(cls, folder: Path) -> "TokenSet":
        """Raises DamagedArtifact when the folder is unfinished or its files do not add up."""
        try:
            facts = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
            found = cls(folder, facts)
        except (OSError, ValueError, KeyError) as error:
            raise DamagedArtifact(f"{folder} is no finished set of tokens: {error}. Remove it and run again.") from None
        stored = sum(len(part) for part in found._parts)
        if not (len(found) == facts["documents"] and stored == int(found.lengths.sum()) == facts["tokens"]):
            raise DamagedArtifact(f"{folder}: {stored} tokens on disk, {facts['tokens']} recorded. Remove it and run again.")
        return found

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Stored tokens, bos and eos included."""
        return int(self.facts["tokens"])

    def document(self, index: int, start: int = 0, stop: int | None = None) -> Ids:
        """Stored tokens [start, stop) of a document, a view of the file."""
        part = int(np.searchsorted(self._first, index, side="right")) - 1
        begin = int(self._starts[index])
        stop = int(self.lengths[index]) if stop is None else stop
        view: Ids = self._parts[part][begin + start : begin + stop]
        return view

    def origin(self, index: int) -> Origin:
        """The source, file and line of a document."""
        part = int(np.searchsorted(self._first, index, side="right")) - 1
        row = self._table(part).slice(index - int(self._first[part]), 1).to_pylist()[0]
        return Origin(**row)

    def by_source(self) -> dict[str, dict[str, int]]:
        """Documents, bytes and tokens of each source."""
        ledger: dict[str, dict[str, int]] = {}
        for part in range(len(self._parts)):
            sums = self._table(part).group_by("source").aggregate([("id", "count"), ("bytes", "sum"), ("tokens", "sum")])
            for row in sums.to_pylist():
                entry = ledger.setdefault(row["source"], {"documents": 0, "bytes": 0, "tokens": 0})
                entry["documents"] += row["id_count"]
                entry["bytes"] += row["bytes_sum"]
                entry["tokens"] += row["tokens_sum"]
        return dict(sorted(ledger.items()))

    @functools.lru_cache(maxsize=2)  # noqa: B019  # a set lives as long as its run
    def _table(self, part: int) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(_names(self.folder, part)[1])


def write_tokens(
    folder: Path, documents: Iterable[Text], encode_batch: Encode, *, bos_id: int | None, eos_id: int | None, vocab_size: int,
    total_bytes: int | None = None, part_tokens: int = PART_TOKENS, take: Callable[[Any], Any] = attrgetter("text"),
) -> TokenSet:  # fmt: skip
    """Store documents as tokens; the same call after an interruption goes on behind the last whole part.

    take: what of a document `encode_batch` is given. The order of `documents` must be the same at each call. Raises
    NoUsableText when there are none, NoSpace on a full disk.
    """
    if (folder / "tokens.json").is_file():
        return TokenSet.open(folder)
    dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    done = list(_finished(folder))
    writer = _Writer(folder, dtype, len(done))
    rest = itertools.islice(documents, sum(part["documents"] for part in done), None)
    with log.progress("tokens", total=total_bytes, unit="B") as bar:
        bar.advance(sum(part["bytes"] for part in done))
        for batch in _batches(rest):
            for document, ids in zip(batch, encode_batch([take(document) for document in batch]), strict=True):
                writer.add(document, _framed(ids, bos_id, eos_id, dtype))
            bar.advance(sum(len(document.text.encode("utf-8", "surrogatepass")) for document in batch))
            if writer.tokens >= part_tokens:
                done.append(writer.flush())
    if writer.rows:
        done.append(writer.flush())
    if not done:
        raise NoUsableText(f"there is no document to turn into tokens for {folder}. See the dataset's card for what was dropped.")
    facts: dict[str, Any] = {key: sum(part[key] for part in done) for key in ("documents", "tokens", "bytes")}
    facts |= {"parts": len(done), "dtype": dtype.name, "bos_id": bos_id, "eos_id": eos_id, "vocab_size": vocab_size}
    files.write_text(folder / "tokens.json", json.dumps(facts, indent=1) + "\n")
    return TokenSet.open(folder)


class _Writer:
    """Gathers documents and writes them as one part."""

    def __init__(self, folder: Path, dtype: np.dtype[Any], part: int):
        self.folder, self.dtype, self.part = folder, dtype, part
        self.rows: list[dict[str, Any]] = []
        self.ids: list[Ids] = []
        self.tokens = 0

    def add(self, document: Text, ids: Ids) -> None:
        self.ids.append(ids)
        self.tokens += len(ids)
        self.rows.append({
            "id": document.id, "source": document.source, "path": document.path, "line": document.line,
            "bytes": len(document.text.encode("utf-8", "surrogatepass")), "tokens": len(ids),
        })  # fmt: skip

    def flush(self) -> dict[str, int]:
        """Write the part, its table last: a part is whole when its table is there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        tokens, table = _names(self.folder, self.part)
        with files.atomic(tokens, "wb") as file:
            for ids in self.ids:
                file.write(ids.tobytes())
        with files.atomic(table, "wb") as file:
            pq.write_table(pa.Table.from_pylist(self.rows, schema=_schema()), file, compression="zstd")
        facts = {"documents": len(self.rows), "tokens": self.tokens, "bytes": sum(row["bytes"] for row in self.rows)}
        self.part, self.tokens, self.rows, self.ids = self.part + 1, 0, [], []
        return facts


def _framed(ids: Ids, bos_id: int | None, eos_id: int | None, dtype: np.dtype[Any]) -> Ids:
    ends = [[] if end is None else [end] for end in (bos_id, eos_id)]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in (ends[0], ids, ends[1])]).astype(dtype)


def _batches(documents: Iterable[Text]) -> Iterator[list[Text]]:
    batch: list[Text] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _finished(folder: Path) -> Iterator[dict[str, int]]:
    """What the whole parts of an unfinished folder hold."""
    for part in itertools.count():
        table = _names(folder, part)[1]
        if not table.is_file():
            return
        columns = _columns(table, ["tokens", "bytes"])
        yield {"documents": len(columns["tokens"]), "tokens": int(columns["tokens"].sum()), "bytes": int(columns["bytes"].sum())}


def _columns(table: Path, names: list[str]) -> dict[str, NDArray[np.int64]]:
    import pyarrow.parquet as pq

    read = pq.read_table(table, columns=names)
    return {name: read.column(name).to_numpy() for name in names}


def _names(folder: Path, part: int) -> tuple[Path, Path]:
    return folder / f"part-{part:05d}.bin", folder / f"part-{part:05d}.parquet"


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([
        ("id", pa.string()), ("source", pa.string()), ("path", pa.string()),
        ("line", pa.int64()), ("bytes", pa.int64()), ("tokens", pa.int64()),
    ])  # fmt: skip
