"""Raw input: pieces of files as decoded text or lines, in bounded memory, and what readers make of them."""

import codecs
import io
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from danlu.data.decode import SAMPLE_BYTES, Unreadable, detect

BLOCK_BYTES = 1 << 20
LINE_BYTES = 64_000_000
"""A longer line is no record: JSON and CSV cannot be parsed in parts."""


@dataclass(frozen=True)
class Piece:
    """A file, or the bytes [start, end) of a large one, with all that decides how it is read."""

    source: str
    path: str
    """What people read: the path as given, joined with the place below it."""
    key: str
    """Place inside the source; document ids are made from it, so they do not depend on where the source lies."""
    place: str
    """Where the bytes are on this machine."""
    reader: str
    profile: str
    licence: str
    sha256: str
    bytes: int
    start: int = 0
    first_line: int = 1


@dataclass(frozen=True)
class Raw:
    """A document as a reader found it, or one part of a long one."""

    text: str
    line: int
    part: int = 0
    continued: bool = False
    """Goes on with the document before it: a further part."""
    licence: str = ""
    language: str = ""
    sample: dict[str, Any] = field(default_factory=dict)
    """The columns of a labelled sample (forms/)."""


@dataclass(frozen=True)
class Bad:
    """Something that could not be read, and why."""

    line: int
    reason: str
    bytes: int


class Opened:
    """One piece of input. Its text comes in blocks or lines; line ends become a single newline."""

    def __init__(self, piece: Piece):
        self.piece = piece
        self.line = piece.first_line

    def blocks(self) -> Iterator[bytes]:
        """Bytes of the piece, decompressed. Raises Unreadable for a damaged archive."""
        left = self.piece.bytes
        with _open(self.piece.place) as file:
            compressed = Path(self.piece.place).suffix.lower() in (".gz", ".zst")
            if self.piece.start:
                file.seek(self.piece.start)
            while True:
                try:
                    block = file.read(BLOCK_BYTES if compressed else min(BLOCK_BYTES, left))
                except (OSError, EOFError, ValueError) as error:
                    raise Unreadable(f"damaged {Path(self.piece.place).suffix} file: {error}") from None
                if not block:
                    return
                left -= len(block)
                yield block

    def chunks(self) -> Iterator[str]:
        """The piece as text. Raises Unreadable, saying the byte that does not fit."""
        decoder, seen = None, 0
        for block in _with_sample(self.blocks()):
            if decoder is None:
                name = detect(block[:SAMPLE_BYTES], whole=len(block) < SAMPLE_BYTES)
                decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(name)(), translate=True)
            yield _decode(decoder, block, seen, final=False)
            seen += len(block)
        if decoder is not None:
            yield _decode(decoder, b"", seen, final=True)

    def lines(self) -> Iterator[tuple[int, str] | Bad]:
        """Numbered lines without their ends; a line that cannot be decoded is Bad and the rest goes on."""
        number, pending, codec, skipped = self.piece.first_line, b"", "", 0
        for block in _with_sample(self.blocks()):
            if not codec:
                codec = _line_codec(block)
                if codec.startswith("utf-16"):
                    yield from _text_lines(self.chunks())
                    return
                block = block.removeprefix(codecs.BOM_UTF8)
            if skipped:
                tail, ended, block = block.partition(b"\n")
                skipped += len(tail)
                if not ended:
                    continue
                yield _too_long(number, skipped)
                number, skipped = number + 1, 0
            *whole, pending = (pending + block).split(b"\n")
            for line in whole:
                yield _line(number, line, codec)
                number += 1
            if len(pending) > LINE_BYTES:
                skipped, pending = len(pending), b""
        if skipped:
            yield _too_long(number, skipped)
        if pending:
            yield _line(number, pending, codec)


def _too_long(number: int, count: int) -> Bad:
    return Bad(number, f"a line of {count} bytes; a record may have {LINE_BYTES}", count)


def _with_sample(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The first block is at least the detection sample long, where the input is."""
    first = b""
    for block in blocks:
        first += block
        if len(first) >= SAMPLE_BYTES:
            break
    if first:
        yield first
    yield from blocks


def _decode(decoder: io.IncrementalNewlineDecoder, block: bytes, seen: int, final: bool) -> str:
    try:
        return decoder.decode(block, final=final)
    except UnicodeDecodeError as error:
        raise Unreadable(f"byte {seen + error.start} does not fit {error.encoding}") from None


def _line_codec(sample: bytes) -> str:
    """Codec for line by line decoding; a sample that fits nothing as a whole may still have good UTF-8 lines."""
    try:
        return detect(sample[:SAMPLE_BYTES], whole=len(sample) < SAMPLE_BYTES).replace("utf-8-sig", "utf-8")
    except Unreadable:
        lines = sample.split(b"\n")
        if b"\x00" in sample or sum(_is_utf8(line) for line in lines) < 0.5 * len(lines) or len(lines) < 3:
            raise
        return "utf-8"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line(number: int, line: bytes, codec: str) -> tuple[int, str] | Bad:
    try:
        return number, line.removesuffix(b"\r").decode(codec)
    except UnicodeDecodeError as error:
        return Bad(number, f"byte {error.start} of the line does not fit {codec}", len(line))


def _text_lines(chunks: Iterable[str]) -> Iterator[tuple[int, str]]:
    number, pending = 1, ""
    for chunk in chunks:
        *whole, pending = (pending + chunk).split("\n")
        for line in whole:
            yield number, line
            number += 1
    if pending:
        yield number, pending


def _open(place: str) -> IO[bytes]:
    suffix = Path(place).suffix.lower()
    if suffix == ".gz":
        import gzip

        return gzip.open(place, "rb")  # type: ignore[return-value]
    if suffix == ".zst":
        import zstandard

        return zstandard.open(place, "rb")  # type: ignore[no-any-return]
    return open(place, "rb")


def cut(chunks: Iterable[str], limit: int, line: int, continued: bool = False) -> Iterator[Raw]:
    """One document from its chunks, in parts of at most `limit` characters; nothing is lost, the parts join to the whole.

    A part ends after a blank line, else a line, else a space or full stop, if there is one in its second half.
    """
    pending, part = "", 0
    for chunk in chunks:
        pending += chunk
        while len(pending) > limit:
            at = _boundary(pending, limit)
            yield Raw(pending[:at], line, part, continued=continued or part > 0)
            line, part, pending = line + pending.count("\n", 0, at), part + 1, pending[at:]
    if pending:
        yield Raw(pending, line, part, continued=continued or part > 0)


def _boundary(text: str, limit: int) -> int:
    """Where to end a part: an index in (limit / 2, limit]."""
    for mark in ("\n\n", "\n", "。", ". ", " "):
        at = text.rfind(mark, limit // 2, limit)
        if at >= 0:
            return at + len(mark)
    at = limit
    while at > limit // 2 + 1 and unicodedata.combining(text[at]):
        at -= 1
    return at
