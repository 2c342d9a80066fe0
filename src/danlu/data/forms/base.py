"""What a form is: the fields a labelled sample is read from, and the columns it has beside `text`.

To add one, write a file here. Its Config names the fields of a record, `columns` names what is stored, and `take` makes the
one from the other. Readers, shards, copies, the ledger and `Document.sample` then know it: nothing else has to change.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from danlu.core.settings import Named

Sample = dict[str, Any]


class Form(ABC):
    """`text` is all of a sample that people read: languages, filters, copies, the ledger and tokenizers go by it."""

    version: ClassVar[int] = 1
    """Raise it when samples come out differently: files measured before are then measured again."""
    columns: ClassVar[Mapping[str, str]]
    """Columns beside `text`, each of a kind that `shards.schema` knows: text, words, or answers."""

    class Config(Named):
        """The fields of a record; dots lead into nothing, a name is a name."""

    def __init__(self, config: Any):
        self.config = config

    def fields(self) -> list[str]:
        """The fields of a record that are read."""
        return [part for key, value in self.config if key != "name" for part in str(value).split(",")]

    def optional(self) -> list[str]:
        """Fields that are read where a record has them."""
        return []

    @abstractmethod
    def take(self, record: Mapping[str, Any]) -> tuple[str, Sample]:
        """The text and the columns of a record. Raises ValueError, in words, where a field is missing or makes no sense."""

    def edit(self, text: str, sample: Sample, editor: Callable[[str], str]) -> tuple[str, Sample]:
        """The sample after the editors. A form whose columns point into the text leaves both as they were read.

        Raises ValueError, in words, where nothing is left of a part that must say something.
        """
        return editor(text), sample


def value_of(record: Any, key: str) -> Any:
    """One field of a record. Raises ValueError saying what is there instead; an empty field counts as missing."""
    if not isinstance(record, Mapping):
        raise ValueError(f"a record must be an object with fields, not {type(record).__name__}")
    if key not in record:
        raise ValueError(f"no field {key!r}; it has {', '.join(map(str, list(record)[:8])) or 'none'}")
    value = record[key]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"field {key!r} is empty")
    return value


def text_of(record: Any, key: str) -> str:
    """A field that must hold text."""
    value = value_of(record, key)
    if not isinstance(value, str):
        raise ValueError(f"field {key!r} is {type(value).__name__}, not text")
    return value


def word_of(value: Any, key: str) -> str:
    """A label as a word: class names as they are without blanks around them, numbers as they are written.

    >>> word_of(" good\\n", "label"), word_of(4, "stars"), word_of(True, "spam")
    ('good', '4', 'true')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise ValueError(f"field {key!r} is {type(value).__name__}; a label is a name or a number")


def words_of(record: Any, key: str) -> list[str]:
    """A field that holds a list of words or numbers, or words with white space between them."""
    value = value_of(record, key)
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list) or not found:
        raise ValueError(f"field {key!r} is {type(value).__name__}, not a list of words")
    return [word_of(word, key) for word in found]
