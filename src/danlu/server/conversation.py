"""The messages and tools of a chat request, as OpenAI's API writes them; part of the declaration of fields (fields.py)."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_MESSAGES, MOST_TOOLS, MOST_PARTS = 2048, 128, 1024
NAME = r"^[a-zA-Z0-9_-]{1,64}$"
UNSEEN = {"image_url": "images", "input_audio": "sound", "file": "files"}
"""Kinds of parts that OpenAI's API has and no model here reads."""


class Strict(BaseModel):
    """Every name is known, every value has its type, every number is finite; nothing is dropped."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Part(Strict):
    """A part of a message's content."""

    type: Literal["text", "refusal"]
    """text, or refusal in an assistant's message. Images, sound and files are refused: no model here reads them."""
    text: str | None = None
    """The text."""
    refusal: str | None = None
    """The text of a refusal."""

    @model_validator(mode="before")
    @classmethod
    def _seen(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("type") in UNSEEN:
            raise ValueError(f"the models here read text only, not {UNSEEN[data['type']]}; leave this part out")
        return data

    @model_validator(mode="after")
    def _filled(self) -> Self:
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} needs {self.type}")
        return self

    @property
    def plain(self) -> str:
        return self.text if self.type == "text" and self.text is not None else self.refusal or ""


Content = str | Annotated[list[Part], Field(min_length=1, max_length=MOST_PARTS)]


class FunctionCall(Strict):
    """What was called, with its arguments as a JSON text."""

    name: str = Field(pattern=NAME)
    """Name of the function."""
    arguments: str
    """A JSON object, written as text."""


class ToolCall(Strict):
    """A call that an assistant made earlier in the conversation."""

    id: str = Field(min_length=1, max_length=256)
    """By this a tool's message says which call it answers."""
    type: Literal["function"]
    """Only functions can be called."""
    function: FunctionCall
    """What was called."""
    index: int | None = None
    """Place among the calls, as streams count them; has no effect."""


class _Message(Strict):
    name: str | None = Field(None, pattern=NAME)
    """Name of the one who speaks; given to the chat template."""

    @property
    def text(self) -> str | None:
        """The content as one text."""
        content = getattr(self, "content", None)
        return content if content is None or isinstance(content, str) else "".join(part.plain for part in content)


class SystemMessage(_Message):
    """How the assistant shall be; developer means the same."""

    role: Literal["system", "developer"]
    """Who speaks."""
    content: Content
    """What is said."""


class UserMessage(_Message):
    """What a user says."""

    role: Literal["user"]
    """Who speaks."""
    content: Content
    """What is said."""


class AssistantMessage(_Message):
    """What the model said before. Fields that an answer of this server has may be sent back as they are."""

    role: Literal["assistant"]
    """Who speaks."""
    content: Content | None = None
    """What was said; may be left out where tools were called."""
    refusal: str | None = None
    """A refusal stands here in place of the content."""
    tool_calls: list[ToolCall] | None = Field(None, max_length=MOST_TOOLS)
    """Tools that were called."""
    reasoning_content: str | None = None
    """What the model thought before; given to the chat template."""
    annotations: list[dict[str, Any]] | None = None
    """Citations of an earlier answer; no part of the text, so the model does not see them."""
    audio: None = None
    """Sound is not spoken here."""
    function_call: None = None
    """Replaced by tool_calls."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and self.refusal is None and not self.tool_calls:
            raise ValueError("an assistant's message needs content, a refusal or tool_calls")
        return self


class ToolMessage(_Message):
    """What a tool answered."""

    role: Literal["tool"]
    """Who speaks."""
    content: Content
    """What the tool gave back."""
    tool_call_id: str = Field(min_length=1, max_length=256)
    """The call that is answered: an id among the tool_calls of an assistant's message before."""


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Strict):
    """A function that the model may call."""

    name: str = Field(pattern=NAME)
    """Letters, digits, _ and -; 64 at most."""
    description: str | None = Field(None, max_length=16384)
    """What it does and when to call it: the model reads this."""
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments; left out: none."""
    strict: bool | None = None
    """Hold the arguments to the schema while they are written."""


class Tool(Strict):
    """Something that can be called."""

    type: Literal["function"]
    """Only functions; custom tools are refused."""
    function: Function
    """The function."""


class NamedFunction(Strict):
    """A function by its name."""

    name: str = Field(pattern=NAME)
    """Its name among the tools."""


class NamedTool(Strict):
    """This tool must be called."""

    type: Literal["function"]
    """Only functions."""
    function: NamedFunction
    """Which one."""


class Allowed(Strict):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    """auto: may be called; required: one of them must be."""
    tools: list[NamedTool] = Field(min_length=1, max_length=MOST_TOOLS)
    """Which ones."""


class AllowedTools(Strict):
    """Only some of the tools may be called."""

    type: Literal["allowed_tools"]
    """Says that this is such a choice."""
    allowed_tools: Allowed
    """Which, and whether one must be."""


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedTools


def check_calls(messages: list[Any]) -> str | None:
    """Where a tool's message answers a call that nobody made: its parameter in words; None where all fit."""
    made: set[str] = set()
    for number, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            made |= {call.id for call in message.tool_calls or ()}
        elif isinstance(message, ToolMessage) and message.tool_call_id not in made:
            return f"messages[{number}].tool_call_id"
    return None
