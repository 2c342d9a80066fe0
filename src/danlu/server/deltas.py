"""What one chat answer consists of while it is written: typed parts that every format (chat, responses, messages) converts.

    chat.py: run_chat(request) -> ChatRun;  async for delta in run.deltas(): match delta: case Text(): ...

Order for each choice: Text, Reasoning, ToolBegin + ToolArguments in any mixture as the answer has them, then one Finished.
After the last Finished the usage of the run is complete. A failure is raised as errors.ApiError in place of the next delta.

Where a model's text holds more than text (tool calls, reasoning), a `Splitter` takes it apart. danlu/server/tools gives

    def plan(request: fields.Chat, template: str | None) -> Plan        # raises ApiError, e.g. for an unknown tool_choice

and chat.py asks it for every request that names tools or whose template knows reasoning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from danlu.engine.answer import Scored

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class Text:
    """More of what the reader sees: whole characters only, stop texts taken out."""

    choice: int
    text: str
    scores: tuple[Scored, ...] = ()
    """Tokens whose text ends here, where log-probabilities were asked for; those of all deltas are those of the answer."""


@dataclass(frozen=True)
class Reasoning:
    """More of what the model thought before it answered."""

    choice: int
    text: str


@dataclass(frozen=True)
class ToolBegin:
    """A tool is called; calls of a choice are counted from 0."""

    choice: int
    index: int
    id: str
    name: str


@dataclass(frozen=True)
class ToolArguments:
    """More of the arguments of a call: pieces of a JSON text."""

    choice: int
    index: int
    text: str


@dataclass(frozen=True)
class Finished:
    """A choice has ended."""

    choice: int
    reason: FinishReason
    stop: str | None = None
    """The stop text that ended it."""


Delta = Text | Reasoning | ToolBegin | ToolArguments | Finished


@dataclass
class Usage:
    """Tokens of a request."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0


class Splitter(Protocol):
    """Takes the text of one choice apart."""

    def push(self, text: str) -> Sequence[Delta]:
        """Parts that are certain now; `scores` stay empty, chat.py adds them."""
        ...

    def finish(self, reason: FinishReason) -> Sequence[Delta]:
        """What is left, and as the last one Finished with the reason that now holds (tool_calls where a call was made)."""
        ...


@dataclass(frozen=True)
class Plan:
    """How a request with tools or reasoning is put to the model and how its answer is read."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    """For the template: tools, and whatever the request lets it know."""
    constraint: tuple[str, Any] | None = None
    """kind and spec for engine.constrain.compile, where the answer is held to a form (tool_choice required or named)."""
    prefill: str = ""
    """Text that the answer begins with: appended to the prompt, given to the splitter first."""
    splitter: Callable[[int], Splitter] | None = None
    """Makes the splitter of a choice; None: the text is the answer."""
    stop: tuple[str, ...] = ()
    """Stop texts beside those of the request."""
