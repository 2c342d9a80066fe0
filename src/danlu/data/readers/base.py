"""What a reader is: documents of one file form from a piece of input."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw, cut

if TYPE_CHECKING:
    from danlu.data.forms.base import Form


class Reader(ABC):
    """Reads one form of file; what it cannot read it returns as Bad, and goes on."""

    extensions: ClassVar[tuple[str, ...]] = ()
    """File name endings that choose this reader, lower case, with the dot."""
    file_names: ClassVar[tuple[str, ...]] = ()
    """Whole file names that choose it."""
    profile: ClassVar[str] = "prose"
    """Which editors and filters apply: prose, or code."""
    splits: ClassVar[bool] = False
    """Whether a large file may be cut at any line end and its pieces read apart."""
    records: ClassVar[bool] = False
    """Whether it reads records with fields, which alone can hold labels."""

    class Config(Named):
        """Nothing to set."""

    def __init__(self, config: Any, form: "Form | None" = None):
        self.config, self.form = config, form

    @abstractmethod
    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        """Documents in file order, none longer than `limit` characters. Raises Unreadable where no more can be read."""

    def documents(self, record: Any, line: int, limit: int, size: int) -> Iterator[Raw | Bad]:
        """The documents of one record of `size` bytes: its text, in parts where it is long; or one whole labelled sample."""
        try:
            if self.form is None:
                text = pick(record, self.config.text)
            else:
                text, sample = self.form.take(record)
        except ValueError as error:
            yield Bad(line, str(error), size)
            return
        if self.form is None:
            for part in cut([text], limit, line):
                yield replace(part, licence=licence_of(record))
        elif len(text) > limit:
            yield Bad(line, f"a labelled sample of {len(text)} characters is not cut; the limit is {limit}", size)
        else:
            yield Raw(text, line, licence=licence_of(record), sample=sample)


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
