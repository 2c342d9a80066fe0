"""The text of one choice taken apart into what was thought, what is said and what is called (deltas.py)."""

from collections.abc import Callable, Sequence

from danlu.server.deltas import Delta, Finished, FinishReason, Reasoning, Text, ToolArguments, ToolBegin
from danlu.server.reasoning import Thinking
from danlu.server.tools import Arguments, Called, CallReader, Piece, Said


class Parts:
    """See deltas.Splitter."""

    def __init__(self, choice: int, thinking: Thinking | None, reader: CallReader | None, new_id: Callable[[], str],
                 most_calls: int | None = None):  # fmt: skip
        """most_calls: further calls are left out, and so is what is said after them."""
        self._choice, self._thoughts, self._reader, self._new_id, self._most = choice, thinking, reader, new_id, most_calls
        self._calls = 0
        self._full = False

    @property
    def thinking(self) -> bool:
        """Whether what comes next belongs to the reasoning."""
        return self._thoughts is not None and self._thoughts.thinking

    def push(self, text: str) -> Sequence[Delta]:
        """Parts that are certain now."""
        return self._split(self._thoughts.push(text) if self._thoughts else [(False, text)])

    def finish(self, reason: FinishReason) -> Sequence[Delta]:
        """What is left, and why it ended."""
        made = self._split(self._thoughts.finish()) if self._thoughts else []
        made += self._deltas(self._reader.finish()) if self._reader else []
        return [*made, Finished(self._choice, "tool_calls" if self._calls and reason == "stop" else reason)]

    def _split(self, parts: list[tuple[bool, str]]) -> list[Delta]:
        made: list[Delta] = []
        for thought, text in parts:
            if thought:
                made.append(Reasoning(self._choice, text))
            elif text:
                made += self._deltas(self._reader.push(text)) if self._reader else [Text(self._choice, text)]
        return made

    def _deltas(self, pieces: Sequence[Piece]) -> list[Delta]:
        made: list[Delta] = []
        for piece in pieces:
            if isinstance(piece, Called):
                self._full = self._calls == self._most
                if not self._full:
                    made.append(ToolBegin(self._choice, self._calls, self._new_id(), piece.name))
                    self._calls += 1
            elif self._full or (isinstance(piece, Said) and self._calls == self._most):
                continue
            elif isinstance(piece, Arguments):
                made.append(ToolArguments(self._choice, self._calls - 1, piece.text))
            else:
                made.append(Text(self._choice, piece.text))
        return made
