"""JSON Lines: one object a line, its text in a field; a broken line is set aside with its number."""

import json
from collections.abc import Iterator
from typing import Literal

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader


@READERS.register
class Jsonl(Reader):
    """One JSON object a line."""

    extensions = (".jsonl", ".ndjson")
    splits = True
    records = True

    class Config(Named):
        name: Literal["jsonl"] = "jsonl"
        text: str = "text"
        """Field that holds the text; several, separated by commas, are joined by a blank line."""

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        for found in opened.lines():
            if isinstance(found, Bad):
                yield found
                continue
            number, line = found
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                yield Bad(number, f"not JSON at character {error.colno}: {error.msg}", len(line.encode()))
                continue
            except (ValueError, RecursionError) as error:
                yield Bad(number, str(error), len(line.encode()))
                continue
            yield from self.documents(record, number, limit, len(line.encode()))
