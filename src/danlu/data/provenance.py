"""Which raw files a dataset was made of, known by their content: sources.parquet, and the inputs of its lineage record."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from danlu.core import files
from danlu.core.lineage import Input
from danlu.data import remote
from danlu.data.plan import Shard
from danlu.data.raw import Piece

NAME = "sources.parquet"


def inputs(shards: Sequence[Shard]) -> list[Input]:
    """One input a source: a single file is known by its sha256, several by a hash over their names and hashes, in order.

    Paths are absolute, so that they lead back from anywhere on this machine.
    """
    found: dict[str, list[Piece]] = {}
    for piece in _raw_files(shards):
        found.setdefault(piece.source, []).append(piece)
    return [_input(source, pieces) for source, pieces in found.items()]


def write(folder: Path, shards: Sequence[Shard]) -> None:
    """sources.parquet: every raw file that was read; `key` is its place below the source's path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pieces = list(_raw_files(shards))
    columns = {name: [getattr(piece, name) for piece in pieces] for name in ("source", "path", "key", "bytes", "sha256")}
    pq.write_table(pa.table(columns), folder / NAME, compression="zstd")


def check(folder: Path, made_from: Sequence[Input]) -> Iterator[tuple[str, Path, str]]:
    """(source, path, state) of every raw file of a dataset: verified, CHANGED, or not here."""
    import pyarrow.parquet as pq

    bases = {one.role.removeprefix("source "): one for one in made_from}
    for batch in pq.ParquetFile(folder / NAME).iter_batches():
        for row in batch.to_pylist():
            base = bases[row["source"]]
            place = Path(base.path) / row["key"] if base.files else Path(base.path)
            yield row["source"], place, _state(place, row["bytes"], row["sha256"])


def _state(path: Path, size: int, sha256: str) -> str:
    if not path.is_file():
        return "not here"
    return "verified" if path.stat().st_size == size and files.sha256(path) == sha256 else "CHANGED"


def _raw_files(shards: Sequence[Shard]) -> Iterator[Piece]:
    """A piece a file, which spans it all."""
    waiting: Piece | None = None
    for piece in (piece for shard in shards for piece in shard.pieces):
        if waiting is not None and piece.start:
            waiting = replace(waiting, bytes=waiting.bytes + piece.bytes)
            continue
        if waiting is not None:
            yield waiting
        waiting = piece
    if waiting is not None:
        yield waiting


def _input(source: str, pieces: Sequence[Piece]) -> Input:
    role, size = f"source {source}", sum(piece.bytes for piece in pieces)
    if len(pieces) == 1:
        return Input(role=role, id=f"sha256:{pieces[0].sha256}", path=_absolute(pieces[0].path), bytes=size)
    digest = hashlib.sha256("".join(f"{piece.key}\0{piece.sha256}\n" for piece in pieces).encode("utf-8", "surrogateescape"))
    base = _absolute(pieces[0].path.removesuffix(pieces[0].key) or ".")
    return Input(role=role, id=f"files-sha256:{digest.hexdigest()}", path=base, bytes=size, files=len(pieces))


def _absolute(path: str) -> str:
    return path.rstrip("/") if remote.is_address(path) else str(Path(path).expanduser().resolve())
