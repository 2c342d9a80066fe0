"""Plain text: a file, a line or a paragraph is a document."""

from collections.abc import Iterator
from typing import Literal

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw, cut
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader

_LONG = 1 << 22
"""A longer line is handed on in parts, in characters."""


@READERS.register
class Txt(Reader):
    """Text as it stands."""

    extensions = (".txt", ".text", ".rst", ".log", ".tex", ".org", ".srt", ".vtt")
    file_names = ("README", "LICENSE", "LICENCE", "COPYING", "AUTHORS", "CHANGELOG", "NEWS", "NOTICE")
    splits = True

    class Config(Named):
        name: Literal["txt"] = "txt"
        unit: Literal["file", "line", "paragraph"] = "file"
        """What a document is; paragraphs are separated by blank lines."""

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        if self.config.unit == "file":
            yield from cut(opened.chunks(), limit, opened.line, continued=opened.piece.start > 0)
        elif self.config.unit == "line":
            for line in _numbered(opened):
                if isinstance(line, Bad):
                    yield line
                elif line[1].strip():
                    yield from cut([line[1]], limit, line[0])
        else:
            yield from _paragraphs(opened, limit)


def _numbered(opened: Opened) -> Iterator[tuple[int, str] | Bad]:
    """Lines in parts of bounded length, so that a huge line is read in pieces rather than refused."""
    number, pending = opened.line, ""
    for chunk in opened.chunks():
        *whole, pending = (pending + chunk).split("\n")
        for line in whole:
            yield number, line
            number += 1
        if len(pending) > _LONG:
            yield number, pending
            pending = ""
    if pending:
        yield number, pending


def _paragraphs(opened: Opened, limit: int) -> Iterator[Raw | Bad]:
    lines: list[str] = []
    first = opened.line
    for found in _numbered(opened):
        if isinstance(found, Bad):
            yield found
            continue
        number, line = found
        if line.strip():
            first = first if lines else number
            lines.append(line)
        elif lines:
            yield from cut(["\n".join(lines)], limit, first)
            lines = []
    if lines:
        yield from cut(["\n".join(lines)], limit, first)
