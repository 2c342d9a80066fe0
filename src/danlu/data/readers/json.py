"""A JSON file that is one array of objects, read element by element; `{...}` lines are read as JSON Lines."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from danlu.core.settings import Named
from danlu.data.raw import LINE_BYTES, Bad, Opened, Raw
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader
from danlu.data.readers.jsonl import Jsonl

_SPACE = " \t\r\n"


@READERS.register
class Json(Reader):
    """One JSON array of objects."""

    extensions = (".json",)
    records = True

    class Config(Named):
        name: Literal["json"] = "json"
        text: str = "text"
        """Field that holds the text; several, separated by commas, are joined by a blank line."""

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        chunks = opened.chunks()
        first = next(chunks, "")
        if first.lstrip(_SPACE)[:1] != "[":
            if not _one_a_line(first):
                yield Bad(1, "neither an array of objects nor one object a line", opened.piece.bytes)
                return
            yield from Jsonl(Jsonl.Config(text=self.config.text), self.form).read(opened, limit)
            return
        for number, found in enumerate(_elements(first, chunks), 1):
            if isinstance(found, Bad):
                yield replace(found, line=number)
                return
            for item in self.documents(found, number, limit, 0):
                yield replace(item, bytes=_bytes(found)) if isinstance(item, Bad) else item


def _bytes(element: object) -> int:
    """About what an element takes in its file."""
    return len(json.dumps(element, ensure_ascii=False).encode(errors="replace"))


def _one_a_line(text: str) -> bool:
    """Whether the first line that holds anything is JSON by itself."""
    line, ended, _ = text.lstrip(_SPACE).partition("\n")
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return not ended and len(line) > 1000  # cut by the block: not known yet
    return True


def _elements(first: str, chunks: Iterator[str]) -> Iterator[object]:
    """The elements of an array, parsed as far as text has arrived; Bad, and the end, where it is broken."""
    decoder = json.JSONDecoder()
    text, at = first.lstrip(_SPACE), 1
    while True:
        while at < len(text) and text[at] in _SPACE + ",":
            at += 1
        if text[at : at + 1] == "]":
            return
        try:
            element, end = decoder.raw_decode(text, at)
            if end == len(text):  # a number or word may go on in the next chunk
                raise json.JSONDecodeError("cut", text, end)
            yield element
            at = end
            continue
        except (json.JSONDecodeError, RecursionError) as error:
            more = next(chunks, None) if len(text) - at < LINE_BYTES else None
            if more is None:
                yield Bad(0, f"the array is broken from here on: {error}", len(text[at:].encode(errors="replace")))
                return
            text, at = text[at:] + more, 0
