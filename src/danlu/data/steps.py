"""The steps from raw files to a dataset, as settings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from danlu.core.settings import Named, Settings, choice
from danlu.data.dedup import DEDUPS
from danlu.data.editors import EDITORS
from danlu.data.filters import FILTERS
from danlu.data.forms import FORMS
from danlu.data.raw import Piece
from danlu.data.readers import READERS

_FORMAT = 1
"""Version of what a measured shard holds."""
_EDITORS: Any = ["nfc", "control", "whitespace"]  # names, built when they are checked: help imports none of them
_FILTERS: Any = ["length", "gopher", "repetition", "code"]
_DEDUPS: Any = ["exact", "minhash"]
_LABELLED: Any = {"filters": [], "dedups": ["exact"]}
"""Defaults for labelled samples: rules for prose would drop short ones, and near copies with other labels are no copies."""


def words(value: Any) -> Any:
    """`name:key=value,key=value` of a command line as a tree; everything else as it is.

    >>> words(["nfkc", "gopher:min_words=5"])
    ['nfkc', {'name': 'gopher', 'min_words': '5'}]
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    return [_word(item) if isinstance(item, str) and ":" in item else item for item in value]


def _word(item: str) -> dict[str, str]:
    name, _, rest = item.partition(":")
    pairs: list[list[str]] = []
    for part in rest.split(","):  # a value may hold commas: text=title,body
        key, equals, value = part.partition("=")
        if equals:
            pairs.append([key, value])
        elif pairs:
            pairs[-1][1] += f",{part}"
    return {"name": name, **dict(pairs)}


class Steps(Settings):
    """What is done to the text."""

    reader: Annotated[Named, choice(READERS)] | None = None
    """Read every file with this reader, whatever its name; when left out the file's name decides."""
    readers: Annotated[list[Annotated[Named, choice(READERS)]], BeforeValidator(words)] = Field([])
    """Settings of readers that file names choose, as in `jsonl:text=content` or `txt:unit=line`."""
    form: Annotated[Named, choice(FORMS)] | None = None
    """What a labelled sample looks like and which fields hold it, as in `--form labels --form.label stars`; left out: plain
    text. With it, no filter and only the removal of exact copies (of text and labels together) are the default."""
    editors: Annotated[list[Annotated[Named, choice(EDITORS)]], BeforeValidator(words)] = Field(_EDITORS)
    """Changes to prose, in order."""
    code_editors: Annotated[list[Annotated[Named, choice(EDITORS)]], BeforeValidator(words)] = Field([])
    """Changes to source code, in order; its white space and characters mean something, so none by default."""
    filters: Annotated[list[Annotated[Named, choice(FILTERS)]], BeforeValidator(words)] = Field(_FILTERS)
    """Rules that drop documents, as in `gopher:min_words=50`; the first rule that a document breaks is named in the ledger."""
    dedups: Annotated[list[Annotated[Named, choice(DEDUPS)]], BeforeValidator(words)] = Field(_DEDUPS)
    """Ways to find copies, in order."""
    language: Literal["rough", "langid", "none"] = "rough"
    """How a document's language is told: from script and common words (free), by py3langid, or not at all."""
    max_document_chars: int = Field(1_000_000, ge=1000)
    """Longer documents are cut into parts, at a paragraph or line end where there is one; nothing is lost."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        return {**_LABELLED, **data} if isinstance(data, Mapping) and data.get("form") else data

    def reader_config(self, name: str) -> Named:
        """The settings of one reader."""
        if self.reader is not None and self.reader.name == name:
            return self.reader
        given = [config for config in self.readers if config.name == name]
        return given[-1] if given else READERS[name].Config()

    def key(self, pieces: Sequence[Piece]) -> str:
        """What a measured shard is known by: the content of its files, and everything that shapes what is measured."""
        readers = sorted({piece.reader for piece in pieces})
        said = {
            "format": _FORMAT,
            "pieces": [
                [p.source, p.path, p.key, p.profile, p.licence, p.sha256, p.start, p.bytes, p.first_line, p.reader]
                for p in pieces
            ],
            "readers": [self.reader_config(name).model_dump() for name in readers],
            "editors": [[EDITORS[config.name].version, config.model_dump()] for config in self.editors],
            "code_editors": [[EDITORS[config.name].version, config.model_dump()] for config in self.code_editors],
            "filters": [_measured(config) for config in self.filters],
            "dedups": [[DEDUPS[config.name].version, config.model_dump()] for config in self.dedups],
            "language": self.language,
            "max_document_chars": self.max_document_chars,
        }
        if self.form is not None:
            said["form"] = [FORMS[self.form.name].version, self.form.model_dump()]
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=12).hexdigest()


def _measured(config: Named) -> list[Any]:
    thing = FILTERS[config.name]
    return [config.name, thing.version, {key: getattr(config, key) for key in thing.measured}]
