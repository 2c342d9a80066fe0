"""JSON read character by character: where a value ends, and what in an object is the name of a tool and what its arguments.

Plain twin: json.loads of the whole text. Nothing is parsed twice, so that long arguments cost no more than their length.
"""

import json
import re
from collections.abc import Collection
from typing import Literal

from danlu.server.tools import Arguments, Called, Piece

_BLANK = " \t\r\n"
_PLAIN = re.compile(r'[^"\\]+')
_MOST_DEPTH = 256
_KEYS = frozenset(["name", "arguments", "parameters", "type", "id"])


class Value:
    """Finds the end of one JSON value."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._string = self._escaped = self._scalar = False

    def plain(self, text: str, at: int) -> int:
        """Up to where a text, from a place on, is more of the value without a look at each character: inside of texts."""
        if not self._string or self._escaped:
            return at
        found = _PLAIN.match(text, at)
        return found.end() if found else at

    def take(self, character: str) -> Literal["more", "last", "beyond", "bad"]:
        """What a character is to the value: more of it, its last, the first after it (of numbers and words), or no JSON."""
        if self._string:
            return self._in_string(character)
        if self._scalar:
            if character in ",}]" or character in _BLANK:
                return "beyond"
            return "more" if character.isalnum() or character in "+-." else "bad"
        return self._outside(character)

    def _in_string(self, character: str) -> Literal["more", "last"]:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._string = False
            return "more" if self._stack else "last"
        return "more"

    def _outside(self, character: str) -> Literal["more", "last", "bad"]:
        if character == '"':
            self._string = True
        elif character in "{[":
            self._stack.append("}" if character == "{" else "]")
            if len(self._stack) > _MOST_DEPTH:
                return "bad"
        elif character in "}]":
            if not self._stack or self._stack.pop() != character:
                return "bad"
            return "more" if self._stack else "last"
        elif not self._stack:
            if not (character.isalnum() or character == "-"):
                return "bad"
            self._scalar = True
        return "more"


class JsonCall:
    """Reads an object {"name": ..., "arguments": {...}} (or "parameters"), keys in any order, into pieces.

    `state`: reading; called once the tool is known; done; refused where it is no call of a known tool; broken where what
    began as one is no JSON.
    """

    def __init__(self, names: Collection[str]):
        self._names = names
        self.state: Literal["reading", "called", "done", "refused", "broken"] = "reading"
        self._at: Literal["object", "key", "in key", "colon", "value", "in value", "after"] = "object"
        self._text: list[str] = []
        self._key = ""
        self._value = Value()
        self._waiting: str | None = None
        """Arguments that came before the name."""
        self._given = False

    @property
    def over(self) -> bool:
        """Whether no more characters are wanted."""
        return self.state in ("done", "refused", "broken")

    def feed(self, text: str) -> tuple[list[Piece], int]:
        """Pieces that a text makes certain, and how much of it was taken: all, or up to the end of the call."""
        pieces: list[Piece] = []
        at = 0
        while at < len(text) and not self.over:
            end = self._value.plain(text, at) if self._at == "in value" else at
            if end > at:
                pieces += self._more(text[at:end])
                at = end
            else:
                pieces += self.take(text[at])
                at += 1
        return pieces, at

    def take(self, character: str) -> list[Piece]:
        """Pieces that a character makes certain. At the end of the object `state` is done."""
        if self._at == "in key":
            return self._in_key(character)
        if self._at == "in value":
            return self._in_value(character)
        if character in _BLANK:
            return []
        return self._between(character)

    def _between(self, character: str) -> list[Piece]:
        if self._at == "object" and character == "{":
            self._at = "key"
        elif self._at == "key" and character == '"':
            self._at, self._text = "in key", []
        elif self._at == "colon" and character == ":":
            self._at = "value"
        elif self._at == "value":
            self._at, self._text, self._value = "in value", [], Value()
            return self._in_value(character)
        elif self._at == "after" and character == ",":
            self._at = "key"
        elif self._at in ("after", "key") and character == "}":
            return self._end()
        else:
            self._fail()
        return []

    def _in_key(self, character: str) -> list[Piece]:
        if character == '"' and self._text[-1:] != ["\\"]:
            self._at, self._key = "colon", "".join(self._text)
            if self._key not in _KEYS or (self._key in ("arguments", "parameters") and self._given):
                self._fail()
        else:
            self._text.append(character)
        return []

    def _in_value(self, character: str) -> list[Piece]:
        if self._key in ("arguments", "parameters") and not self._text:
            self._given = True
            if character not in '{"n':  # an object, one written as a text, or null
                self._fail()
                return []
        kind = self._value.take(character)
        if kind == "bad":
            self._fail()
            return []
        if kind == "beyond":
            self._at = "after"
            return [*self._complete(), *([] if self.over else self.take(character))]
        pieces = self._more(character)
        if kind == "last":
            self._at = "after"
            return pieces or self._complete()
        return pieces

    def _more(self, text: str) -> list[Piece]:
        """More of a value: arguments of a known tool are shown at once, anything else is kept until it is whole."""
        if self._key in ("arguments", "parameters") and self.state == "called" and (self._text or [text])[0][0] == "{":
            self._text = self._text or ["{"]
            return [Arguments(text)]
        self._text.append(text)
        return []

    def _complete(self) -> list[Piece]:
        """A whole value has been read."""
        if self._key == "name":
            return self._named()
        if self._key in ("arguments", "parameters"):
            given = _object_text("".join(self._text))
            if given is None:
                self._fail()
            elif self.state == "called":
                return [Arguments(given)]
            else:
                self._waiting = given
        return []

    def _named(self) -> list[Piece]:
        try:
            name = json.loads("".join(self._text))
        except ValueError:
            name = None
        if self.state != "reading" or not isinstance(name, str) or name not in self._names:
            self._fail()
            return []
        self.state = "called"
        return [Called(name), *([Arguments(self._waiting)] if self._waiting is not None else [])]

    def _end(self) -> list[Piece]:
        if self.state != "called":
            self.state = "refused"
            return []
        self.state = "done"
        return [] if self._given else [Arguments("{}")]

    def _fail(self) -> None:
        self.state = "broken" if self.state == "called" else "refused"


def _object_text(text: str) -> str | None:
    """The JSON text of arguments: an object as it stands, one written as a JSON string, none for null."""
    if text.startswith("{"):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if found is None:
        return "{}"
    return found if isinstance(found, str) and found.lstrip().startswith("{") else None
