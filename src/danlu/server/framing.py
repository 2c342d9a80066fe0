"""The grammar of an answer that may hold thoughts, calls and a form, each in its place (engine/constrain/framed.py).

forced      calls only; the text that opens the first is prefilled
otherwise   [thought] (the form | free text, or calls in which arguments follow their schemas)
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from danlu.server.asking import form_of
from danlu.server.conversation import Tool
from danlu.server.errors import invalid
from danlu.server.fields import Chat
from danlu.server.reasoning import Marks

_OBJECT = {"type": "object"}


def framed(request: Chat, tools: Sequence[Tool], forced: bool, parallel: bool, marks: Marks | None, opened: bool, format: Any,
           template: str, special: Mapping[str, int]) -> tuple[str, Any] | None:  # fmt: skip
    """Kind and spec of the constraint; None where the request's own form, or none, is all.

    marks: of a model whose thoughts may come first; opened: the prompt ends inside them. Raises ApiError.
    """
    form = form_of(request)
    strict = any(tool.function.strict for tool in tools)
    if not (forced or (tools and (strict or form)) or (marks and form)):
        return None
    if (form and form[0] == "grammar") or (form and forced and form[0] in ("regex", "choices")):
        raise invalid(form[0], f"'{form[0]}' holds the whole answer to a form, which leaves no room for calls or reasoning. "
                               f"Leave tools out, or say tool_choice none; and reasoning_effort none.")  # fmt: skip
    lark = _Lark(special)
    parts: dict[str, Any] = {}
    if tools:
        numbers = [number for number, tool in enumerate(request.tools or ()) if tool in tools]
        _calls(lark, parts, list(zip(numbers, tools, strict=True)), forced, parallel, format, template)
    if forced:
        lark.rule("start", "calls")
        return "framed", lark.spec(parts)
    if form:
        parts["form"] = [form[0], form[1]]
    body = ["BLANKS @form"] if form else []
    if tools:
        body += _beside(lark, format.frame(template), bool(form))
    lark.rule("body", " | ".join(body))
    thought = "thought " if marks and opened else ""
    if marks:
        lark.until("thought", marks.close)
    lark.rule("start", f"{thought}body" + (f" | BLANKS {lark.atoms(marks.open)} thought body" if marks and not opened else ""))
    return "framed", lark.spec(parts)


def _calls(lark: "_Lark", parts: dict[str, Any], tools: Sequence[tuple[int, Tool]], forced: bool, parallel: bool, format: Any,
           template: str) -> None:  # fmt: skip
    """Rules of one or more calls, without the text that opens the first. Tools come with their places in the request."""
    frame = format.frame(template)
    for number, tool in tools:
        given = tool.function.parameters
        held = forced or tool.function.strict
        schema = (
            ({"properties": {}, **_OBJECT, **given} if given else {**_OBJECT, "additionalProperties": False}) if held else _OBJECT
        )
        parts[f"arguments_{number}"] = ["json_schema", schema]
        lark.rule(f"call_{number}", f"{lark.atoms(format.before(tool.function.name, template))} @arguments_{number} "
                                    f"{lark.atoms(frame.after)}")  # fmt: skip
    lark.rule("call", " | ".join(f"call_{number}" for number, _ in tools))
    more = f"({lark.atoms(frame.between)} call)*" if parallel else ""
    lark.rule("calls", f"call {more} {lark.atoms(frame.closing)}")


def _arguments(given: dict[str, Any] | None) -> dict[str, Any]:
    """The schema of a tool's arguments: always an object, an empty one where nothing is said."""
    return {**_OBJECT, **given} if given else {**_OBJECT, "additionalProperties": False}


def _beside(lark: "_Lark", frame: Any, form: bool) -> list[str]:
    """Alternatives for an answer with calls and, without a form, one of free text."""
    opening = lark.atoms(frame.opening)
    if form:
        return [f"BLANKS {opening} calls"]
    if frame.alone:
        lark.terminal("PLAIN", rf"\s*([^\s{re.escape(frame.alone)}](.|\n)*)?")
        return ["PLAIN", f"BLANKS {opening} calls"]
    lark.until("head", frame.trigger)
    return ["TEXT", f"head {lark.atoms(frame.opening.removeprefix(frame.trigger))} calls"]


class _Lark:
    """Writes a grammar; names of special tokens in fixed texts become the tokens."""

    def __init__(self, special: Mapping[str, int]):
        self._special, self._used = special, set[int]()
        self._lines = ["%llguidance {}", r"TEXT: /(.|\n)*/", r"BLANKS: /\s{0,8}/"]
        names = sorted(special, key=lambda name: (-len(name), name))
        self._cut = re.compile(f"({'|'.join(map(re.escape, names))})") if names else None

    def spec(self, parts: dict[str, Any]) -> dict[str, Any]:
        """What engine/constrain/framed.py takes."""
        return {"frame": "\n".join(self._lines) + "\n", "parts": parts, "tokens": sorted(self._used)}

    def rule(self, name: str, body: str) -> None:
        """A rule."""
        self._lines.append(f"{name}: {body}")

    def terminal(self, name: str, expression: str) -> None:
        """A terminal."""
        self._lines.append(f"{name}: /{expression}/")

    def until(self, name: str, mark: str) -> None:
        """A rule: any text up to the first mark, and the mark."""
        self._lines.append(f"{name}: TEXT {self.atoms(mark)}" if mark in self._special else
                           f"{name}[lazy]: TEXT {self.atoms(mark)}")  # fmt: skip

    def atoms(self, text: str) -> str:
        """A fixed text."""
        pieces = self._cut.split(text) if self._cut else [text]
        self._used |= {self._special[piece] for piece in pieces if piece in self._special}
        return " ".join(
            f"<[{self._special[piece]}]>" if piece in self._special else json.dumps(piece) for piece in pieces if piece
        )
