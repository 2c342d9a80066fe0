"""What a reader is: documents of one file form from a piece of input."""

from collections.abc import Iterator
from typing import Any, ClassVar

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw


class Reader:
    """Reads one form of file; what it cannot read it returns as Bad, and goes on."""

    extensions: ClassVar[tuple[str, ...]] = ()
    """File name endings that choose this reader, lower case, with the dot."""
    file_names: ClassVar[tuple[str, ...]] = ()
    """Whole file names that choose it."""
    profile: ClassVar[str] = "prose"
    """Which editors and filters apply: prose, or code."""
    splits: ClassVar[bool] = False
    """Whether a large file may be cut at any line end and its pieces read apart."""

    class Config(Named):
        """Nothing to set."""

    def __init__(self, config: Any):
        self.config = config

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        """Documents in file order, none longer than `limit` characters. Raises Unreadable where no more can be read."""
        raise NotImplementedError


def pick(record: Any, keys: str) -> str:
    """The text of a record: the named fields joined by a blank line; a list of texts is joined line by line.

    Raises ValueError saying what is there instead.
    """
    if not isinstance(record, dict):
        raise ValueError(f"a record must be an object with fields, not {type(record).__name__}")
    parts = []
    for key in keys.split(","):
        if key not in record:
            raise ValueError(f"no field {key!r}; it has {', '.join(map(str, list(record)[:8])) or 'none'}")
        value = record[key]
        if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
            value = "\n".join(value)
        if not isinstance(value, str):
            raise ValueError(f"field {key!r} is {type(value).__name__}, not text")
        parts.append(value)
    return "\n\n".join(parts)


def licence_of(record: Any) -> str:
    """A record's own licence, where it states one; empty otherwise."""
    assert isinstance(record, dict)
    for key in ("licence", "license"):
        if isinstance(record.get(key), str):
            return str(record[key])
    return ""
