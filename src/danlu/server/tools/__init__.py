"""How models write that they call a tool: one file a format, each telling, reading and framing calls in its own way.

A reader takes the text of one answer as it comes, cut anywhere, and gives pieces that are certain: what is said, which tool is
called, more of its arguments. What only looks like a call (no such tool, no JSON) stays what was said.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from danlu.core.registry import Registry

TOOL_FORMATS: Registry[Any] = Registry("tool format", __name__)


@dataclass(frozen=True)
class Said:
    """Text for the reader of the answer."""

    text: str


@dataclass(frozen=True)
class Called:
    """A call begins; Arguments up to the next Called are its own."""

    name: str


@dataclass(frozen=True)
class Arguments:
    """More of the arguments: pieces of a JSON text, as the model wrote it."""

    text: str


Piece = Said | Called | Arguments


class CallReader(Protocol):
    """Reads one answer."""

    def push(self, text: str) -> list[Piece]:
        """What is certain after more text."""
        ...

    def finish(self) -> list[Piece]:
        """What is left once nothing more comes."""
        ...


@dataclass(frozen=True)
class Frame:
    """The texts around calls: `opening`, calls with `between` between them, `closing`; a call is before(name), JSON, `after`."""

    opening: str
    between: str
    closing: str
    after: str
    trigger: str = ""
    """The beginning of `opening` by which a call within text is told from it."""
    alone: str = ""
    """For calls that the whole answer consists of: their first character."""


class ToolFormat(Protocol):
    """What stands on the shelf; made without arguments."""

    special: frozenset[str]
    """Names of special tokens that a reader looks for."""

    def fits(self, template: str) -> bool:
        """Whether a chat template speaks this format."""
        ...

    def tell(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """What a system message says about tools, for chat templates that do not know any."""
        ...

    def write(self, calls: Sequence[Mapping[str, Any]]) -> str:
        """Earlier calls as the model wrote them, for such templates."""
        ...

    def answer(self, content: str) -> str:
        """What a tool gave back, for such templates."""
        ...

    def reader(self, names: Collection[str]) -> CallReader:
        """A reader that knows calls of these tools."""
        ...

    def frame(self, template: str) -> Frame:
        """The texts around calls."""
        ...

    def before(self, name: str, template: str) -> str:
        """The text of a call up to its arguments."""
        ...

    def new_id(self) -> str:
        """An id for a call."""
        ...


def format_of(template: str) -> Any:
    """The format of a chat template: the first in this order whose marks it has; hermes where it has none."""
    for name in ("mistral", "hermes", "pythonic", "llama3_json"):
        found = TOOL_FORMATS[name]()
        if found.fits(template):
            return found
    return TOOL_FORMATS["hermes"]()
