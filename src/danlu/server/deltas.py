"""What one chat answer consists of while it is written: typed parts that every format (chat, responses, messages) converts.

    chat.py: run_chat(request) -> ChatRun;  async for delta in run.deltas(): match delta: case Text(): ...

Order for each choice: Text, Reasoning, ToolBegin + ToolArguments in any mixture as the answer has them, then one Finished.
After the last Finished the usage of the run is complete. A failure is raised as errors.ApiError in place of the next delta.

Where a model's text holds more than text (tool calls, reasoning), a `Splitter` takes it apart. planning.py gives

    def plan(request: fields.Chat, template: Template | None, special_tokens: Mapping[str, int]) -> Plan

and chat.py asks it for every chat. It raises ApiError, e.g. for a tool_choice that names no tool, and BadInput. The ids of the
prompt are then tokenizer.chat.encode_chat(tokenizer, template, plan.messages, plan.tools, variables=plan.variables), in which
nothing that anybody said becomes a control token, in a process that cannot hang, and the ids of plan.prefill.
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

    @property
    def thinking(self) -> bool:
        """Whether what comes next belongs to the reasoning: tokens that come while it holds are reasoning_tokens."""
        ...

    def push(self, text: str) -> Sequence[Delta]:
        """Parts that are certain now; `scores` stay empty, chat.py adds them."""
        ...

    def finish(self, reason: FinishReason) -> Sequence[Delta]:
        """What is left, and as the last one Finished with the reason that now holds (tool_calls where a call was made)."""
        ...


@dataclass(frozen=True)
class Plan:
    """How a chat is put to the model and how its answer is read."""

    messages: Sequence[Mapping[str, Any]] = ()
    """The conversation as chat templates take it: developer is system, content is one text, tools are told where need be."""
    tools: Sequence[Mapping[str, Any]] | None = None
    """For the template's own list of tools."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Switches for the template (enable_thinking and its like)."""
    constraint: tuple[str, Any] | None = None
    """kind and spec for engine.constrain.compile, in place of the form that the request asks for and with that form in it:
    where calls are held to a form (tool_choice required or named, strict tools) or reasoning comes before a form."""
    prefill: str = ""
    """Text that the answer begins with: its ids (special tokens are meant) follow the prompt's; the splitter gets it first."""
    splitter: Callable[[int], Splitter] | None = None
    """Makes the splitter of a choice; None: the text is the answer."""
    special: frozenset[str] = frozenset()
    """Special tokens that the splitter must see in the text, where others are hidden."""
