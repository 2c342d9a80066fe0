"""Calls as JSON between <tool_call> and </tool_call>: Hermes, Qwen 2.5 and 3, Danlu's own CHATML."""

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from danlu.core.settings import Named
from danlu.server.tools import TOOL_FORMATS, Frame
from danlu.server.tools.json_call import JsonCall
from danlu.server.tools.reading import Steps

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@TOOL_FORMATS.register
class Hermes:
    """See ToolFormat."""

    class Config(Named):
        name: Literal["hermes"] = "hermes"

    special = frozenset([_OPEN, _CLOSE])

    def fits(self, template: str) -> bool:
        return _OPEN in template

    def tell(self, tools: Sequence[Mapping[str, Any]]) -> str:
        lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        return (
            f"You may call these functions, described by one JSON object a line:\n<tools>\n{lines}\n</tools>\n"
            f'To call one, write:\n{_OPEN}\n{{"name": NAME, "arguments": {{...}}}}\n{_CLOSE}'
        )

    def write(self, calls: Sequence[Mapping[str, Any]]) -> str:
        return "\n".join(f"{_OPEN}\n{_object(call)}\n{_CLOSE}" for call in calls)

    def answer(self, content: str) -> str:
        return f"<tool_response>\n{content}\n</tool_response>"

    def reader(self, names: Collection[str]) -> "Reader":
        return Reader(names)

    def frame(self, template: str) -> Frame:
        return Frame(f"{_OPEN}\n", f"\n{_OPEN}\n", "", f"}}\n{_CLOSE}", _OPEN)

    def before(self, name: str, template: str) -> str:
        return f'{{"name": {json.dumps(name)}, "arguments": '

    def new_id(self) -> str:
        return f"call_{secrets.token_hex(12)}"


def _object(call: Mapping[str, Any]) -> str:
    return f'{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"]}}}'


class Reader(Steps):
    """Text, then an object between the marks, then text again, as often as they come."""

    def begin(self) -> bool:
        return self.text_until(_OPEN, self._opened)

    def _opened(self) -> bool:
        self._marked, self._reading = len(self._raw), JsonCall(self.names)
        self.step = self._object
        return True

    def _object(self) -> bool:
        if not self.call(self._reading):
            return False
        if self._reading.state == "refused":
            return self.refuse(self.begin, self._marked)
        self.step = self._close if self._reading.state == "done" else self.begin
        return True

    def _close(self) -> bool:
        if not self.blanks():
            return False
        if self.buffer.startswith(_CLOSE):
            self._raw, self.buffer = "", self.buffer[len(_CLOSE) :]
        elif _CLOSE.startswith(self.buffer):
            return False
        self._raw = ""
        self.step = self._after
        return True

    def _after(self) -> bool:
        found = self.blanks()
        self._raw = ""
        if found:
            self.step = self.begin
        return found

    def finish(self):  # type: ignore[no-untyped-def]  # see Steps
        if self.step == self._close:  # the end mark was cut off, the call is whole
            self._raw = self.buffer = ""
        return super().finish()
