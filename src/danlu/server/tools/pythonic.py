"""Calls as a Python list, [heat(degrees=5, unit="C")], that the whole answer consists of: Llama 3.2 and 4, ToolACE."""

import ast
import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from danlu.core.settings import Named
from danlu.server.tools import TOOL_FORMATS, Arguments, Called, Frame, Piece
from danlu.server.tools.reading import Steps

_MOST = 65536
_HEAD = re.compile(r"\[\s*[A-Za-z_][\w-]*\s*\(")
_WORDS = {"true": True, "false": False, "null": None}
"""JSON's names for them, which models write too."""


@TOOL_FORMATS.register
class Pythonic:
    """See ToolFormat. Arguments are shown once a list is whole: Python's texts become JSON's."""

    class Config(Named):
        name: Literal["pythonic"] = "pythonic"

    special: frozenset[str] = frozenset()

    def fits(self, template: str) -> bool:
        return re.search(r"\[\w+\(\w+=", template) is not None

    def tell(self, tools: Sequence[Mapping[str, Any]]) -> str:
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        return f"You may call these functions:\n{lines}\nTo call some, answer with [NAME(PARAMETER=VALUE, ...), ...] alone."

    def write(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return f"[{', '.join(_python(call) for call in calls)}]"

    def answer(self, content: str) -> str:
        return content

    def reader(self, names: Collection[str]) -> "Reader":
        return Reader(names)

    def frame(self, template: str) -> Frame:
        return Frame("[", ", ", "]", ")", alone="[")

    def before(self, name: str, template: str) -> str:
        return f"{name}(**"

    def new_id(self) -> str:
        return f"call_{secrets.token_hex(12)}"


def _python(call: Mapping[str, Any]) -> str:
    """A call with its JSON arguments as Python writes them."""
    try:
        given = json.loads(call["arguments"])
    except ValueError:
        given = {}
    return f"{call['name']}({', '.join(f'{name}={value!r}' for name, value in given.items())})"


class Reader(Steps):
    """A list from the first character on; anything else is text to the end."""

    def begin(self) -> bool:
        if not self.blanks():
            return False
        self._depth, self._quote, self._escaped, self._size, self._seen = 0, "", False, len(self._raw), 0
        self.step = self._list if self.buffer[0] == "[" else self._text
        return True

    def _list(self) -> bool:
        for number, character in enumerate(self.buffer):
            self._seen += 1
            if self._ends(character):
                self.keep(number + 1)
                return self._whole()
            if self._seen > _MOST:
                self.keep(number + 1)
                self.step = self._text
                return True
        self.keep(len(self.buffer))
        return False

    def _ends(self, character: str) -> bool:
        """Whether a character closes the list; follows texts in quotes."""
        if self._quote:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == self._quote:
                self._quote = ""
        elif character in "\"'":
            self._quote = character
        else:
            self._depth += (character in "[{(") - (character in "]})")
        return self._depth == 0 and not self._quote

    def _whole(self) -> bool:
        pieces = calls_of(self._raw[self._size :], self.names)
        if pieces is None:
            self.step = self._text
            if not self.buffer:
                self._text()
            return True
        self.pieces += pieces
        self._raw = ""
        self.step = self._after
        return True

    def _after(self) -> bool:
        self.buffer = self.buffer.lstrip()
        if not self.buffer:
            return False
        self.step = self._text
        return True

    def _text(self) -> bool:
        self.say(self._raw + self.buffer)
        self._raw = self.buffer = ""
        return False


def calls_of(text: str, names: Collection[str]) -> list[Piece] | None:
    """The calls of a list; None where it is anything else.

    >>> calls_of('[heat(degrees=5, unit="C")]', {"heat"})
    [Called(name='heat'), Arguments(text='{"degrees": 5, "unit": "C"}')]
    """
    if not _HEAD.match(text):
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if not isinstance(tree, ast.List):
        return None
    pieces: list[Piece] = []
    for call in tree.elts:
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names and not call.args):
            return None
        try:
            given: dict[str, Any] = {}
            for word in call.keywords:
                value = _value(word.value)
                given |= value if word.arg is None else {word.arg: value}
            pieces += [Called(call.func.id), Arguments(json.dumps(given, ensure_ascii=False, allow_nan=False))]
        except (ValueError, TypeError, RecursionError):
            return None
    return pieces


def _value(node: ast.expr) -> Any:
    """A literal. Raises ValueError for anything that computes."""
    match node:
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part) for part in parts]
        case ast.Dict(keys=keys, values=values):
            return {_key(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case _:
            found = ast.literal_eval(node)
            if isinstance(found, bytes | complex | set):
                raise ValueError("no JSON")
            return found


def _key(node: ast.expr | None) -> str:
    found = None if node is None else ast.literal_eval(node)
    if not isinstance(found, str):
        raise ValueError("names are texts")
    return found
