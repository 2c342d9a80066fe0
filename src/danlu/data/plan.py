"""The work to do: pieces of files grouped into shards of about equal size, each known by its content.

A large file of lines is cut at line ends, so several processes can share it; which bytes go into which shard depends on
the files alone, never on how many processes there are.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from danlu.core.log import progress
from danlu.data.raw import BLOCK_BYTES, Piece
from danlu.data.readers import READERS
from danlu.data.sources import Found

SHARD_BYTES = 8_000_000


@dataclass(frozen=True)
class Shard:
    """Pieces that are measured together; `number` is its place in the order."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)


def shard_as_dict(shard: Shard) -> dict[str, Any]:
    """A shard as plain values, to hand to another process."""
    return asdict(shard)


def shard_from(said: dict[str, Any]) -> Shard:
    """The inverse of `shard_as_dict`."""
    return Shard(said["number"], tuple(Piece(**piece) for piece in said["pieces"]))


def plan(found: Iterable[Found], licences: dict[str, str], shard_bytes: int = 0) -> list[Shard]:
    """Shards of about `shard_bytes` bytes of raw files (0: SHARD_BYTES), in source order."""
    shard_bytes = shard_bytes or SHARD_BYTES
    shards: list[Shard] = []
    pieces: list[Piece] = []
    waiting = 0
    with progress("hash input", unit="B") as bar:
        for file in found:
            for piece in _pieces(file, licences.get(file.source, "unknown"), shard_bytes):
                bar.advance(piece.bytes)
                if pieces and waiting + piece.bytes > shard_bytes:
                    shards.append(Shard(len(shards), tuple(pieces)))
                    pieces, waiting = [], 0
                pieces.append(piece)
                waiting += piece.bytes
    if pieces:
        shards.append(Shard(len(shards), tuple(pieces)))
    return shards


def _pieces(found: Found, licence: str, shard_bytes: int) -> Iterator[Piece]:
    reader = READERS[found.reader]
    digest, size, lines = hashlib.sha256(), 0, 0
    wanted = shard_bytes
    starts, first_lines = [0], [1]
    splits = reader.splits and Path(found.place).suffix.lower() not in (".gz", ".zst")
    with open(found.place, "rb") as file:
        splits = splits and not file.read(2).startswith((b"\xff\xfe", b"\xfe\xff"))
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            if splits and size + len(block) > wanted:
                at = _line_end(block, wanted - size)
                if at is not None:
                    starts.append(size + at)
                    first_lines.append(1 + lines + block.count(b"\n", 0, at))
                    wanted = size + at + shard_bytes
                else:
                    wanted = size + len(block)  # no line ends here: look in the next block
            lines += block.count(b"\n") if splits else 0
            size += len(block)
    sha256 = digest.hexdigest()
    ends = [*starts[1:], size]
    whole = Piece(found.source, found.path, found.key, found.place, found.reader, reader.profile, licence, sha256, size)
    for start, end, line in zip(starts, ends, first_lines, strict=True):
        yield replace(whole, start=start, bytes=end - start, first_line=line)


def _line_end(block: bytes, wanted: int) -> int | None:
    """The first place after a line end at or after `wanted`, strictly inside the block's reach."""
    found = block.find(b"\n", max(wanted - 1, 0))
    return found + 1 if 0 <= found < len(block) - 1 else None
