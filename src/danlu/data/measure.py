"""One shard of raw files, read, cut, edited and measured into one Parquet file: signals now, decisions later.

The file appears whole or not at all and is known by its content, so an interrupted run goes on where it stopped and a changed
threshold needs no second reading. Memory is bounded by a batch, not by the shard.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from danlu.core import files
from danlu.core.errors import BadInput
from danlu.data import languages
from danlu.data.decode import Unreadable
from danlu.data.dedup import DEDUPS
from danlu.data.editors import EDITORS
from danlu.data.filters import FILTERS
from danlu.data.forms import FORMS
from danlu.data.forms.base import Form, Sample
from danlu.data.ledger import Ledger
from danlu.data.letters import Array
from danlu.data.plan import Shard
from danlu.data.raw import Bad, Opened, Piece, Raw
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader
from danlu.data.shards import kind_of
from danlu.data.steps import Steps
from danlu.data.texts import Texts

BATCH_CHARACTERS = 400_000
BATCH_DOCUMENTS = 4096


@dataclass(frozen=True)
class Row:
    """An edited document and what it was before."""

    piece: Piece
    raw: Raw
    text: str
    bytes_read: int
    sample: Sample

    @property
    def whole(self) -> str:
        """What copies agree in: the text, and all labels."""
        return f"{self.text}\n{json.dumps(self.sample, ensure_ascii=False)}" if self.sample else self.text


class Measurer:
    """Readers, editors, filters and deduplicators, built once and used for shard after shard."""

    def __init__(self, steps: Steps):
        self.steps = steps
        self.editors = {
            "prose": [EDITORS.build(config) for config in steps.editors],
            "code": [EDITORS.build(config) for config in steps.code_editors],
        }
        self.filters = [FILTERS.build(config) for config in steps.filters]
        self.dedups = [DEDUPS.build(config) for config in steps.dedups]
        nothing = Texts([])  # its signals have names and no values
        self.signals = [name for filter in self.filters for name in filter.measure(nothing)]
        self.keys = [name for dedup in self.dedups for name in dedup.keys(nothing)]
        self.readers: dict[str, Reader] = {}
        self.form: Form | None = FORMS.build(steps.form) if steps.form else None

    def measure(self, shard: Shard, path: Path) -> None:
        """Write the measured shard to `path`, and beside it `.bad.jsonl` with all that could not be read."""
        import pyarrow.parquet as pq

        ledger = Ledger()
        # the notes close first: where the Parquet file stands after a kill, and counts as measured, they stand too
        with files.atomic(path, "wb") as file, files.atomic(path.with_suffix(".bad.jsonl")) as notes:
            empty = self.table([])
            with pq.ParquetWriter(file, empty.schema, compression="zstd", compression_level=1) as writer:
                writer.write_table(empty)
                for batch in _batches(self._rows(shard, ledger, notes)):
                    writer.write_table(self.table(batch))
                writer.add_key_value_metadata({"ledger": json.dumps(ledger.sources)})

    def _rows(self, shard: Shard, ledger: Ledger, notes: IO[str]) -> Iterator[Row]:
        for piece in shard.pieces:
            found = 0
            if not os.access(piece.place, os.R_OK):
                # no fault of the text: noted as unreadable, it would be lost to the next run as well, which takes this shard over
                raise BadInput(f"{piece.place} was found and can no longer be read. Put it back, or leave it out of the sources; "
                               f"what is done is kept: run the same command again.")  # fmt: skip
            try:
                for item in self._reader(piece.reader).read(Opened(piece), self.steps.max_document_chars):
                    row = item if isinstance(item, Bad) else self._row(piece, item)
                    if isinstance(row, Bad):
                        _note(notes, ledger, piece, row)
                        continue
                    found += 1
                    ledger.add(piece.source, "read", not row.raw.continued, len(row.raw.text), row.bytes_read)
                    if row.raw.continued:
                        ledger.add(piece.source, "split", 1)
                    yield row
            except Unreadable as error:
                _note(notes, ledger, piece, Bad(0, str(error), 0 if found else piece.bytes))

    def _reader(self, name: str) -> Reader:
        if name not in self.readers:
            self.readers[name] = READERS.build(self.steps.reader_config(name), self.form)
        if self.form and not self.readers[name].records:
            raise Unreadable(f"a {name} file has no fields, so it holds no labels; give JSON Lines, CSV, TSV, Parquet, ...")
        return self.readers[name]

    def _row(self, piece: Piece, raw: Raw) -> Row | Bad:
        try:
            size = len(raw.text.encode())
        except UnicodeEncodeError as error:
            return Bad(raw.line, f"half a surrogate pair at character {error.start}", len(raw.text.encode(errors="replace")))
        editors = self.editors[piece.profile]

        def edit(text: str) -> str:
            for editor in editors:
                text = editor.edit(text)
            return text

        try:
            text, sample = self.form.edit(raw.text, raw.sample, edit) if self.form else (edit(raw.text), {})
        except ValueError as error:
            return Bad(raw.line, str(error), size)
        return Row(piece, raw, text, size, sample)

    def table(self, rows: Sequence[Row]) -> Any:
        """Everything known about a batch of documents, one row each."""
        import pyarrow as pa

        profiles = [row.piece.profile for row in rows]
        columns = self._columns(rows, profiles)
        texts = pa.array([row.text for row in rows], pa.large_string())
        quality = columns.signals.get("repeated_5_grams", np.zeros(len(rows)))
        lengths = np.array([len(row.text) for row in rows], np.int64)
        return pa.table({
            "id": pa.array(np.array([_identify(row) for row in rows], np.uint64)),
            "source": pa.array([row.piece.source for row in rows], pa.string()),
            "path": pa.array([row.piece.path for row in rows], pa.string()),
            "line": pa.array([row.raw.line for row in rows], pa.int64()),
            "text": texts,
            "licence": pa.array([row.raw.licence or row.piece.licence for row in rows], pa.string()),
            "language": pa.array(columns.languages, pa.string()),
            "profile": pa.array(profiles, pa.string()),
            "characters": lengths,
            "bytes": pa.array([len(text.encode()) for text in columns.texts], pa.int64()),
            "characters_read": pa.array([len(row.raw.text) for row in rows], pa.int64()),
            "bytes_read": pa.array([row.bytes_read for row in rows], pa.int64()),
            **{f"sample:{name}": pa.array([row.sample[name] for row in rows], kind_of(kind))
               for name, kind in (self.form.columns if self.form else {}).items()},
            "quality": pa.array(np.round(lengths * (1 - np.nan_to_num(quality)))),
            **{f"signal:{name}": values for name, values in columns.signals.items()},
            **{f"key:{name}": values for name, values in columns.keys.items()},
        })  # fmt: skip

    def _columns(self, rows: Sequence[Row], profiles: Sequence[str]) -> "_Columns":
        """Signals, keys and languages; each profile is measured apart, and what does not apply is not a number."""
        signals = {name: np.full(len(rows), np.nan) for name in self.signals}
        keys = {name: np.zeros(len(rows), np.uint64) for name in self.keys}
        found = _Columns([row.text for row in rows], signals, keys, [row.raw.language or "und" for row in rows])
        for profile in set(profiles):
            which = np.array([place for place, name in enumerate(profiles) if name == profile], np.int64)
            texts = Texts([rows[place].text for place in which])
            for filter in self.filters:
                if profile in filter.profiles:
                    for name, values in filter.measure(texts).items():
                        found.signals[name][which] = values
            wholes = Texts([rows[place].whole for place in which]) if self.form else texts
            for dedup in self.dedups:
                for name, values in dedup.keys(wholes).items():
                    found.keys[name][which] = values
            if profile == "prose":
                for place, language in zip(which, self._languages(texts), strict=True):
                    found.languages[place] = language
        return found

    def _languages(self, texts: Texts) -> list[str]:
        if self.steps.language == "langid":
            import py3langid

            return [str(py3langid.classify(text[:2000])[0]) for text in texts.texts]
        return languages.guess(texts) if self.steps.language == "rough" else ["und"] * len(texts)


@dataclass
class _Columns:
    texts: list[str]
    signals: dict[str, Array]
    keys: dict[str, Array]
    languages: list[str]


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    waiting = 0
    for row in rows:
        batch.append(row)
        waiting += len(row.text) + 1
        if waiting >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, waiting = [], 0
    if batch:
        yield batch


def _identify(row: Row) -> int:
    """The document's id: a hash of where it stands in its source, never 0."""
    said = f"{row.piece.source}\0{row.piece.key}\0{row.raw.line}\0{row.raw.part}".encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big") or 1


def _note(notes: IO[str], ledger: Ledger, piece: Piece, bad: Bad) -> None:
    ledger.add(piece.source, "read", 1, 0, bad.bytes)
    ledger.add(piece.source, "quarantined", 1, 0, bad.bytes)
    said = {"source": piece.source, "path": piece.path, "line": bad.line, "reason": bad.reason, "bytes": bad.bytes}
    notes.write(json.dumps(said, ensure_ascii=False) + "\n")
