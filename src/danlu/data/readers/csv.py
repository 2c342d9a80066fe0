"""Comma-separated values: a row is a document. A quotation mark that never closes costs its own line, not its neighbours."""

import csv
import re
from collections.abc import Iterator
from typing import ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader

_ROW_LINES = 1000
"""A quoted field that runs over more lines is taken for a stray quotation mark."""


@READERS.register
class Csv(Reader):
    """Comma-separated values with a header."""

    extensions: ClassVar[tuple[str, ...]] = (".csv",)
    records: ClassVar[bool] = True

    class Config(Named):
        name: Literal["csv"] = "csv"
        text: str = "text"
        """Column that holds the text, by name, or by number from 1 where there is no header; several, separated by commas,
        are joined by a blank line."""
        header: bool = True
        """Whether the first line names the columns."""
        delimiter: str = ","
        """What separates fields."""
        quoting: bool = True
        """Whether fields may stand in double quotation marks; otherwise these are ordinary characters."""

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        names: list[str] | None = None
        for found in self._rows(opened):
            if isinstance(found, Bad):
                yield found
                continue
            number, row = found
            if names is None:
                names = row if self.config.header else [str(place) for place in range(1, len(row) + 1)]
                if self.config.header:
                    continue
            if len(row) != len(names):
                yield Bad(number, f"{len(row)} fields where {len(names)} are expected", sum(len(cell.encode()) for cell in row))
                continue
            record = dict(zip(names, row, strict=True))
            yield from self.documents(record, number, limit, sum(len(cell.encode()) for cell in row))

    def _rows(self, opened: Opened) -> Iterator[tuple[int, list[str]] | Bad]:
        """Rows with the line they begin at; a row over several lines is joined only where it then fits."""
        lines = _Ahead(opened.lines())
        width = 0
        while (found := lines.take()) is not None:
            if isinstance(found, Bad):
                yield found
                continue
            number, line = found
            if not line.strip():
                continue
            row = self._parse(line)
            if row is None:
                row, used = self._join(line, lines, width)
                if row is None:
                    yield Bad(number, "a quotation mark opens and does not close", len(line.encode()))
                    continue
                lines.drop(used)
            width = width or len(row)
            yield number, row

    def _join(self, line: str, lines: "_Ahead", width: int) -> tuple[list[str] | None, int]:
        """The row that begins with an open quotation mark, and how many further lines it takes.

        Lines that lie wholly inside, are rows of the right width and begin alike were swallowed by a stray mark: no join then.
        """
        text, inner = line, 0
        begins = _shape(line.split(self.config.delimiter)[0])
        for used in range(1, _ROW_LINES + 1):
            found = lines.peek(used - 1)
            if found is None or isinstance(found, Bad):
                return None, 0
            text += "\n" + found[1]
            row = self._parse(text)
            if row is not None:
                fits = not width or len(row) == width
                return (row, used) if fits and not (inner and inner == used - 1) else (None, 0)
            alone = self._parse(found[1])
            inner += alone is not None and len(alone) == width > 1 and _shape(alone[0]) == begins
        return None, 0

    def _parse(self, line: str) -> list[str] | None:
        """The fields of a complete row, or None."""
        if not self.config.quoting:
            return line.split(self.config.delimiter)
        if '"' not in line:
            return line.split(self.config.delimiter) if "\n" not in line else None
        try:
            rows = list(csv.reader([line], delimiter=self.config.delimiter, strict=True))
        except csv.Error:
            return None
        return rows[0] if len(rows) == 1 else None


def _shape(cell: str) -> str:
    """What a field looks like: runs of digits and of letters become one sign each."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))


class _Ahead:
    """Lines with a look ahead."""

    def __init__(self, lines: Iterator[tuple[int, str] | Bad]):
        self._lines, self._seen = lines, []  # type: ignore[var-annotated]

    def peek(self, ahead: int) -> tuple[int, str] | Bad | None:
        while len(self._seen) <= ahead:
            line = next(self._lines, None)
            if line is None:
                return None
            self._seen.append(line)
        return self._seen[ahead]  # type: ignore[no-any-return]

    def take(self) -> tuple[int, str] | Bad | None:
        return self._seen.pop(0) if self._seen else next(self._lines, None)

    def drop(self, count: int) -> None:
        del self._seen[:count]


csv.field_size_limit(1 << 30)
