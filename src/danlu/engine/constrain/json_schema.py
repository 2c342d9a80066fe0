"""Answers that are JSON of a given JSON Schema (draft 2020-12, the subset that OpenAI's strict mode knows, and some more).

A keyword outside the subset is an error that names it and its place: none is ever ignored. Properties come in the order of
the schema; what has not been said about whitespace is settled here, so that a model cannot write blanks for ever.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from danlu.engine.constrain import FORMS, BadForm, Limits, brief

_SPACE = r" |\r?\n[ \t]{0,80}"
"""Between parts of the JSON: nothing, one blank, or a new line with its indentation."""

_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = r"[A-Za-z0-9]{1,24}(?:-[A-Za-z0-9]{1,24})?"
_EMAIL = rf"[A-Za-z0-9](?:[A-Za-z0-9_+-]|\.[A-Za-z0-9]){{0,31}}@(?:{_LABEL}\.){{1,3}}[A-Za-z]{{2,12}}"
_FORMATS = {"date": _DATE, "time": _TIME, "date-time": f"{_DATE}T{_TIME}",
            "email": _EMAIL, "hostname": rf"(?:{_LABEL}\.){{0,3}}{_LABEL}"}  # fmt: skip
"""What every library reads: no 30 February, no second 60, no names of hundreds of letters."""
_KNOWN_FORMATS = (*_FORMATS, "duration", "ipv4", "ipv6", "uuid", "uri")

_TYPES = ("string", "number", "integer", "boolean", "null", "object", "array")
_NOTES = frozenset(
    ["title", "description", "default", "examples", "$schema", "$comment", "deprecated", "readOnly", "writeOnly", "discriminator"]
)
"""Keywords that say nothing about what is valid."""


@FORMS.register
def json_schema(spec: Any, limits: Limits) -> str:
    """spec: the schema, a mapping (or true: any JSON)."""
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_json_schema(json.dumps(_Reader(spec, limits).schema()), overrides=_OPTIONS))


_OPTIONS: Any = {"whitespace_pattern": _SPACE}


class _Reader:
    """Reads one schema into what llguidance is given: the same without notes, every keyword looked at."""

    def __init__(self, root: Any, limits: Limits):
        self.root, self.limits = root, limits
        self.values = self.properties = 0

    def schema(self) -> Any:
        """The whole. Raises BadForm."""
        self._measure(self.root, 1)
        try:
            size = len(json.dumps(self.root, ensure_ascii=False, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            raise BadForm(f"the schema is not JSON: {error}.") from None
        if size > self.limits.spec_bytes:
            raise BadForm(f"the schema has {size} bytes; at most {self.limits.spec_bytes} are read.")
        return self._read(self.root, "#")

    def _measure(self, part: Any, depth: int) -> None:
        if depth > self.limits.depth:
            raise BadForm(f"the schema is nested more than {self.limits.depth} deep.")
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            self._measure(inner, depth + 1)

    def _read(self, schema: Any, at: str) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise BadForm(f"{at}: a schema is an object, true or false, not {brief(schema)}.")
        found: dict[str, Any] = {}
        for word, value in schema.items():
            if word in _NOTES:
                continue
            if word not in _WORDS:
                raise BadForm(
                    f"{at}: the keyword {brief(word)} is not supported. Supported: {', '.join(sorted(_WORDS))}; "
                    f"{', '.join(sorted(_NOTES))} are accepted and mean nothing here."
                )
            found[word] = _WORDS[word](self, value, f"{at}/{word}")
        return self._with_format(found)

    def _with_format(self, found: dict[str, Any]) -> dict[str, Any]:
        """A schema whose formats are patterns, where we have them."""
        if found.get("format") not in _FORMATS:
            return found
        pattern = {"pattern": f"^{_FORMATS[found.pop('format')]}$"}
        return {**found, "allOf": [*found.get("allOf", []), pattern]} if "pattern" in found else {**found, **pattern}

    def _type(self, value: Any, at: str) -> Any:
        named = value if isinstance(value, list) and value else [value]
        if wrong := [name for name in named if not isinstance(name, str) or name not in _TYPES]:
            raise BadForm(f"{at}: there is no type {brief(wrong[0])}. Known: {', '.join(_TYPES)}.")
        return value

    def _schemas(self, value: Any, at: str) -> Any:
        if not isinstance(value, list) or not value:
            raise BadForm(f"{at}: expected a list of schemas, found {brief(value)}.")
        return [self._read(one, f"{at}/{number}") for number, one in enumerate(value)]

    def _named(self, value: Any, at: str) -> Any:
        if not isinstance(value, dict):
            raise BadForm(f"{at}: expected an object of schemas, found {brief(value)}.")
        self.properties += len(value)
        if self.properties > self.limits.properties:
            raise BadForm(f"{at}: the schema has more than {self.limits.properties} properties.")
        return {name: self._read(one, f"{at}/{name}") for name, one in value.items()}

    def _names(self, value: Any, at: str) -> Any:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise BadForm(f"{at}: expected a list of names, found {brief(value)}.")
        self.properties += len(value)
        return value

    def _enum(self, value: Any, at: str) -> Any:
        if not isinstance(value, list) or not value:
            raise BadForm(f"{at}: expected a list of values, found {brief(value)}.")
        self.values += len(value)
        if self.values > self.limits.values:
            raise BadForm(f"{at}: the schema lists more than {self.limits.values} values.")
        return value

    def _reference(self, value: Any, at: str) -> Any:
        if not isinstance(value, str) or not value.startswith("#"):
            raise BadForm(f"{at}: {brief(value)} is not a place in this schema (#/$defs/...); nothing else is fetched.")
        found: Any = self.root
        for name in value[1:].split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdigit():
                found = found[int(name)] if int(name) < len(found) else None
            else:
                found = found.get(name) if isinstance(found, Mapping) else None
        if not isinstance(found, dict | bool):
            raise BadForm(f"{at}: {brief(value)} leads to no schema.")
        return value

    def _pattern(self, value: Any, at: str) -> Any:
        if not isinstance(value, str):
            raise BadForm(f"{at}: expected a regular expression, found {brief(value)}.")
        if len(value) > self.limits.pattern_characters:
            raise BadForm(f"{at}: the expression has {len(value)} characters; at most {self.limits.pattern_characters} are read.")
        return value

    def _format(self, value: Any, at: str) -> Any:
        if not isinstance(value, str) or value not in _KNOWN_FORMATS:
            raise BadForm(f"{at}: the format {brief(value)} is not supported. Supported: {', '.join(_KNOWN_FORMATS)}.")
        return value

    def _number(self, value: Any, at: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadForm(f"{at}: expected a number, found {brief(value)}.")
        return value

    def _count(self, value: Any, at: str, most: int) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadForm(f"{at}: expected a whole number from 0, found {brief(value)}.")
        if value > most:
            raise BadForm(f"{at}: {value} is more than the {most} that can be counted.")
        return value

    def _items(self, value: Any, at: str) -> Any:
        return self._count(value, at, self.limits.items)

    def _length(self, value: Any, at: str) -> Any:
        return self._count(value, at, self.limits.length)

    def _constant(self, value: Any, at: str) -> Any:
        return value


_WORDS: dict[str, Callable[[_Reader, Any, str], Any]] = {
    "type": _Reader._type, "enum": _Reader._enum, "const": _Reader._constant,
    "properties": _Reader._named, "required": _Reader._names, "additionalProperties": _Reader._read,
    "items": _Reader._read, "prefixItems": _Reader._schemas, "minItems": _Reader._items, "maxItems": _Reader._items,
    "minLength": _Reader._length, "maxLength": _Reader._length, "pattern": _Reader._pattern, "format": _Reader._format,
    "minimum": _Reader._number, "maximum": _Reader._number, "exclusiveMinimum": _Reader._number,
    "exclusiveMaximum": _Reader._number, "multipleOf": _Reader._number,
    "anyOf": _Reader._schemas, "oneOf": _Reader._schemas, "allOf": _Reader._schemas,
    "$ref": _Reader._reference, "$defs": _Reader._named, "definitions": _Reader._named,
}  # fmt: skip
