"""CoNLL files: a word and its tag a line, a blank line after each sentence (as in CoNLL-2003's named entities).

Chosen by `--reader conll`, with `--form tags`.
"""

from collections.abc import Iterator
from typing import Literal

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader


@READERS.register
class Conll(Reader):
    """A sentence is a record with the fields `text`, `tokens` and `tags`."""

    records = True

    class Config(Named):
        name: Literal["conll"] = "conll"
        text: str = "text"
        """Field that holds the text when no form is asked for: the words with a blank between them."""
        word: int = 1
        """Column of the word, from 1; -1 is the last."""
        tag: int = -1
        """Column of the tag, from 1; -1 is the last."""
        comment: str = "-DOCSTART-"
        """How a line begins that is none of the text."""

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        first, rows = 1, []  # type: int, list[list[str]]
        for found in opened.lines():
            if isinstance(found, Bad):
                yield found
                continue
            number, line = found
            cells = line.split()
            if cells and not line.startswith(self.config.comment):
                first = first if rows else number
                rows.append(cells)
            elif rows:
                yield from self._sentence(rows, first, limit)
                rows = []
        if rows:
            yield from self._sentence(rows, first, limit)

    def _sentence(self, rows: list[list[str]], line: int, limit: int) -> Iterator[Raw | Bad]:
        size = sum(len(cell.encode()) + 1 for row in rows for cell in row)
        try:
            words, tags = ([_cell(row, column) for row in rows] for column in (self.config.word, self.config.tag))
        except IndexError:
            yield Bad(line, f"a line has fewer columns than asked for ({self.config.word} and {self.config.tag})", size)
            return
        yield from self.documents({"text": " ".join(words), "tokens": words, "tags": tags}, line, limit, size)


def _cell(row: list[str], column: int) -> str:
    """A cell by its number from 1, or from the end."""
    return row[column - 1 if column > 0 else column]
