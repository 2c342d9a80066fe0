"""Calls after [TOOL_CALLS]: a JSON list of objects (Mistral 7B v0.3, Nemo), or NAME[ARGS]{...} for each (Small 3.2, Devstral)."""

import json
import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from danlu.core.settings import Named
from danlu.server.tools import TOOL_FORMATS, Arguments, Called, Frame
from danlu.server.tools.json_call import JsonCall, Value
from danlu.server.tools.reading import Steps

_MARK, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_LETTERS = string.ascii_letters + string.digits
_MOST_NAME = 256


@TOOL_FORMATS.register
class Mistral:
    """See ToolFormat."""

    class Config(Named):
        name: Literal["mistral"] = "mistral"

    special = frozenset([_MARK, _ARGS, _ID])

    def fits(self, template: str) -> bool:
        return _MARK in template

    def tell(self, tools: Sequence[Mapping[str, Any]]) -> str:
        return f"[AVAILABLE_TOOLS] {json.dumps(list(tools), ensure_ascii=False)}[/AVAILABLE_TOOLS]"

    def write(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return f"{_MARK} [{', '.join(_object(call) for call in calls)}]"

    def answer(self, content: str) -> str:
        return f"[TOOL_RESULTS] {content}[/TOOL_RESULTS]"

    def reader(self, names: Collection[str]) -> "Reader":
        return Reader(names)

    def frame(self, template: str) -> Frame:
        if _ARGS in template:
            return Frame(_MARK, _MARK, "", "", _MARK)
        return Frame(f"{_MARK} [" if f"{_MARK} " in template else f"{_MARK}[", ", ", "]", "}", _MARK)

    def before(self, name: str, template: str) -> str:
        return f"{name}{_ARGS}" if _ARGS in template else f'{{"name": {json.dumps(name)}, "arguments": '

    def new_id(self) -> str:
        return "".join(secrets.choice(_LETTERS) for _ in range(9))  # their templates refuse others


def _object(call: Mapping[str, Any]) -> str:
    return f'{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"]}}}'


class Reader(Steps):
    """Text, then after the mark a list, an object, or a name with arguments."""

    def begin(self) -> bool:
        return self.text_until(_MARK, self._opened)

    def _opened(self) -> bool:
        self._marked, self._listed = len(self._raw), False
        self.step = self._head
        return True

    def _head(self) -> bool:
        if not self.blanks():
            return False
        if self.buffer[0] == "[" and not self._listed:
            if _ARGS.startswith(self.buffer[: len(_ARGS)]) and len(self.buffer) < 2:
                return False
            self.keep(1)
            self._listed = True
        elif self.buffer[0] == "{":
            self._reading = JsonCall(self.names)
            self.step = self._object
        elif self._listed:
            return self.refuse(self.begin, self._marked)
        else:
            self.step = self._name
        return True

    def _object(self) -> bool:
        if not self.call(self._reading):
            return False
        if self._reading.state == "refused":
            return self.refuse(self.begin, self._marked)
        done = self._reading.state == "done"
        self.step = (self._next if self._listed else self._after) if done else self.begin
        self._marked = 0
        return True

    def _next(self) -> bool:
        """Between the calls of a list."""
        if not self.blanks():
            return False
        self._raw = ""
        if self.buffer[0] == ",":
            self.buffer = self.buffer[1:]
            self.step = self._head
        else:
            self.buffer = self.buffer.removeprefix("]")
            self.step = self._after
        return True

    def _name(self) -> bool:
        at = self.buffer.find("{")
        if at < 0 and len(self.buffer) < _MOST_NAME:
            return False
        head = self.buffer[: max(at, 0)].strip().removesuffix(_ARGS)
        name = head.partition(_ID)[0].strip()
        if name not in self.names:
            return self.refuse(self.begin, self._marked)
        self.pieces.append(Called(name))
        self._raw, self.buffer, self._value = "", self.buffer[at:], Value()
        self.step = self._arguments
        return True

    def _arguments(self) -> bool:
        at = 0
        while at < len(self.buffer):
            end = self._value.plain(self.buffer, at)
            kind = "more" if end > at else self._value.take(self.buffer[at])
            if kind == "bad":
                self.pieces.append(Arguments(self.buffer[:at]))
                self.buffer, self.step = self.buffer[at:], self.begin
                return True
            at = max(end, at + 1)
            if kind == "last":
                self.step = self._after
                break
        self.pieces.append(Arguments(self.buffer[:at]))
        self.buffer = self.buffer[at:]
        return bool(self.buffer)

    def _after(self) -> bool:
        found = self.blanks()
        self._raw = ""
        if found:
            self.step = self.begin
        return found
