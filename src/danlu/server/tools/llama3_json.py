"""Calls as bare JSON, {"name": ..., "parameters": {...}}, that the whole answer consists of: Llama 3.1 to 3.3."""

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from danlu.core.settings import Named
from danlu.server.tools import TOOL_FORMATS, Frame
from danlu.server.tools.json_call import JsonCall
from danlu.server.tools.reading import Steps

_TAG = "<|python_tag|>"


@TOOL_FORMATS.register
class Llama3Json:
    """See ToolFormat."""

    class Config(Named):
        name: Literal["llama3_json"] = "llama3_json"

    special = frozenset([_TAG])

    def fits(self, template: str) -> bool:
        return '"parameters": ' in template and ("ipython" in template or _TAG in template)

    def tell(self, tools: Sequence[Mapping[str, Any]]) -> str:
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        return f'You may call these functions:\n{lines}\nTo call one, answer with {{"name": NAME, "parameters": {{...}}}} alone.'

    def write(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return "; ".join(f'{{"name": {json.dumps(call["name"])}, "parameters": {call["arguments"]}}}' for call in calls)

    def answer(self, content: str) -> str:
        return content

    def reader(self, names: Collection[str]) -> "Reader":
        return Reader(names)

    def frame(self, template: str) -> Frame:
        return Frame("", "; ", "", "}", alone="{")

    def before(self, name: str, template: str) -> str:
        return f'{{"name": {json.dumps(name)}, "parameters": '

    def new_id(self) -> str:
        return f"call_{secrets.token_hex(12)}"


class Reader(Steps):
    """Objects from the first character on, between them semicolons or blanks; anything else is text to the end."""

    def begin(self) -> bool:
        if not self.blanks():
            return False
        if self.buffer.startswith(_TAG):
            self.keep(len(_TAG))
            self.step = self._first
        elif _TAG.startswith(self.buffer):
            return False
        else:
            self.step = self._first
        return True

    def _first(self) -> bool:
        if not self.blanks():
            return False
        self._marked, self._reading = len(self._raw), JsonCall(self.names)
        self.step = self._object if self.buffer[0] == "{" else self._text
        return True

    def _object(self) -> bool:
        if not self.call(self._reading):
            return False
        self.step = self._between if self._reading.state == "done" else self._text
        return True

    def _between(self) -> bool:
        rest = self.buffer.lstrip(" \t\r\n;")
        self.buffer = rest
        if not rest:
            return False
        self.step = self._first
        return True

    def _text(self) -> bool:
        self.say(self._raw + self.buffer)
        self._raw = self.buffer = ""
        return False
