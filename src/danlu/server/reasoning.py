"""What a model thinks before it answers: told apart from the answer by a pair of marks, whatever the pieces are cut like.

Templates differ in who opens the block: some write the opening mark themselves at the end of the prompt, others leave it to the
model. Blanks around the marks belong to neither side.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from danlu.core.errors import BadInput
from danlu.engine.stop import overlap
from danlu.server.errors import ApiError
from danlu.tokenizer.chat import Template, render, variables_read

_BLANK = " \t\r\n"


@dataclass(frozen=True)
class Marks:
    """The pair around what is thought."""

    open: str
    close: str


KNOWN = (Marks("<think>", "</think>"), Marks("[THINK]", "[/THINK]"), Marks("<reasoning>", "</reasoning>"))


def marks_of(template: Template) -> Marks | None:
    """The pair that a chat template speaks of; None: its model does not think aloud."""
    text = template if isinstance(template, str) else json.dumps(list(template))
    return next((marks for marks in KNOWN if marks.close in text or marks.open in text), None)


@functools.lru_cache(maxsize=256)
def _opens(template: str, marks: Marks, variables: str) -> bool:
    try:
        given = {"bos_token": "", "eos_token": "", **json.loads(variables)}
        text = render(json.loads(template), [{"role": "user", "content": "?"}], **given)
    except BadInput:
        return False
    return text.rstrip(_BLANK).endswith(marks.open)


def opens(template: Template, marks: Marks, variables: Mapping[str, Any]) -> bool:
    """Whether the template itself opens the block at the end of a prompt."""
    return _opens(json.dumps(template), marks, json.dumps(dict(variables), sort_keys=True))


def switches_of(effort: str | None, template: Template, marks: Marks | None) -> tuple[dict[str, Any], bool]:
    """What an effort means to a template: variables, and whether its block must be closed for it because it has no switch.

    Raises ApiError for an effort that this model cannot make.
    """
    if effort is None:
        return {}, False
    read = variables_read(template)
    found: dict[str, Any] = {}
    if "enable_thinking" in read:
        found["enable_thinking"] = effort != "none"
    if "reasoning_effort" in read:
        found["reasoning_effort"] = effort
    if effort == "none":
        closes = marks is not None and "enable_thinking" not in read and opens(template, marks, {})
        return found, closes
    if not found and (marks is None or not opens(template, marks, {})):
        raise ApiError(400, "This model's chat template has no switch for reasoning. Leave 'reasoning_effort' out, or say none.",
                       param="reasoning_effort", code="unsupported_parameter")  # fmt: skip
    return found, False


class Thinking:
    """Splits one answer. `push` gives pairs: whether it is thought, and the text."""

    def __init__(self, marks: Marks, opened: bool):
        """opened: the prompt ends inside the block."""
        self._marks = marks
        self._state = "thinking" if opened else "beginning"
        self._buffer = ""
        self._blanks: list[str] = []
        """Blanks that are left out unless more text of their side follows."""
        self._fresh = True
        """Nothing of this side has been shown yet: blanks at its beginning are left out."""

    @property
    def thinking(self) -> bool:
        """Whether what comes next belongs to the thoughts."""
        return self._state == "thinking"

    def push(self, text: str) -> list[tuple[bool, str]]:
        """What is certain.

        >>> thinking = Thinking(KNOWN[0], opened=False)
        >>> [pair for piece in ["<thi", "nk> Hm", ". </th", "ink> Ye", "s."] for pair in thinking.push(piece)]
        [(True, 'Hm'), (True, '.'), (False, 'Ye'), (False, 's.')]
        """
        self._buffer += text
        made: list[tuple[bool, str]] = []
        if self._state == "beginning":
            self._begin()
        if self._state == "thinking":
            self._think(made)
        if self._state == "answering":
            shown = self._buffer.lstrip(_BLANK) if self._fresh else self._buffer
            self._fresh = self._fresh and not shown
            made += [(False, shown)] if shown else []
            self._buffer = ""
        if self._state == "plain" and self._buffer:
            made.append((False, self._buffer))
            self._buffer = ""
        return made

    def _begin(self) -> None:
        """Does it begin with the mark? Blanks before it do not matter."""
        rest = self._buffer.lstrip(_BLANK)
        self._blanks.append(self._buffer[: len(self._buffer) - len(rest)])
        self._buffer = rest
        if rest.startswith(self._marks.open):
            self._state, self._buffer, self._blanks = "thinking", rest[len(self._marks.open) :], []
        elif rest and not self._marks.open.startswith(rest):
            self._state, self._buffer, self._blanks = "plain", "".join(self._blanks) + rest, []

    def _think(self, made: list[tuple[bool, str]]) -> None:
        at = self._buffer.find(self._marks.close)
        size = at if at >= 0 else len(self._buffer) - overlap(self._buffer, self._marks.close)
        self._thought(self._buffer[:size], made)
        self._buffer = self._buffer[size:]
        if at >= 0:
            self._state, self._fresh, self._blanks = "answering", True, []
            self._buffer = self._buffer[len(self._marks.close) :]

    def _thought(self, text: str, made: list[tuple[bool, str]]) -> None:
        """Show thoughts without the blanks at their beginning and end."""
        shown = text.rstrip(_BLANK)
        left = text[len(shown) :]
        if self._fresh:
            shown = shown.lstrip(_BLANK)
        if shown:
            made.append((True, "".join([*self._blanks, shown])))
            self._fresh, self._blanks = False, []
        if not self._fresh and left:
            self._blanks.append(left)

    def finish(self) -> list[tuple[bool, str]]:
        """What is left: the beginning of a mark that did not come is text."""
        made: list[tuple[bool, str]] = []
        if self._state == "thinking":
            self._thought(self._buffer, made)
        elif rest := "".join(self._blanks) + self._buffer:
            made.append((False, rest))
        self._buffer, self._blanks = "", []
        return made
