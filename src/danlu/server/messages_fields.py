"""Fields of Anthropic's POST /v1/messages and /v1/messages/count_tokens, and what they mean as a chat."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from danlu.server.conversation import MOST_MESSAGES, MOST_PARTS, MOST_TOOLS, NAME, Strict
from danlu.server.errors import ApiError, invalid
from danlu.server.fields import MOST_STOPS, Chat, DanluBlock, JsonSchema, Request, StopText, only, says
from danlu.server.shapes import as_chat

UNSEEN = {"image": "images", "document": "documents", "search_result": "search results", "container_upload": "files"}


class CacheControl(Strict):
    """Accepted without effect: what was read before is found again by itself."""

    type: Literal["ephemeral"]
    """ephemeral."""
    ttl: Literal["5m", "1h"] | None = None
    """Has no effect."""


class Block(Strict):
    """What all blocks have."""

    cache_control: CacheControl | None = None
    """Has no effect."""

    @model_validator(mode="before")
    @classmethod
    def _seen(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("type") in UNSEEN:
            raise ValueError(f"the models here read text only, not {UNSEEN[str(data['type'])]}; leave this block out")
        return data


class TextBlock(Block):
    """A text."""

    type: Literal["text"]
    """Says so."""
    text: str
    """The text."""
    citations: list[Any] | None = None
    """Of an earlier answer; no part of the text."""


class ToolUseBlock(Block):
    """A tool that the assistant called."""

    type: Literal["tool_use"]
    """Says so."""
    id: str = Field(min_length=1, max_length=256)
    """By this a tool_result says which call it answers."""
    name: str = Field(pattern=NAME)
    """What was called."""
    input: dict[str, Any]
    """With which arguments."""


class ToolResultBlock(Block):
    """What a tool gave back."""

    type: Literal["tool_result"]
    """Says so."""
    tool_use_id: str = Field(min_length=1, max_length=256)
    """The call that is answered."""
    content: str | Annotated[list[TextBlock], Field(max_length=MOST_PARTS)] | None = None
    """What came back."""
    is_error: bool | None = None
    """The tool failed: the model reads `Error: ` before the content."""


class ThinkingBlock(Strict):
    """What the assistant thought before."""

    type: Literal["thinking"]
    """Says so."""
    thinking: str
    """The text; given to the chat template."""
    signature: str | None = None
    """Has no effect."""


AnyBlock = Annotated[TextBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock, Field(discriminator="type")]


class Turn(Strict):
    """A turn of the conversation."""

    role: Literal["user", "assistant"]
    """Who speaks."""
    content: str | Annotated[list[AnyBlock], Field(min_length=1, max_length=MOST_PARTS)]
    """What is said, called, or given back."""

    @model_validator(mode="after")
    def _own(self) -> Self:
        foreign = (ToolResultBlock,) if self.role == "assistant" else (ToolUseBlock, ThinkingBlock)
        for block in self.content if isinstance(self.content, list) else ():
            if isinstance(block, foreign):
                raise ValueError(f"a block of type {block.type} does not stand in a message of the {self.role}")
        return self


class CustomTool(Strict):
    """A tool that the model may call; tools of Anthropic's own are not known here."""

    type: Literal["custom"] | None = None
    """custom, or left out."""
    name: str = Field(pattern=NAME)
    """Letters, digits, _ and -; 64 at most."""
    description: str | None = Field(None, max_length=16384)
    """What it does and when to call it."""
    input_schema: dict[str, Any]
    """JSON schema of the arguments, of type object."""
    strict: bool | None = None
    """Hold the arguments to the schema while they are written."""
    cache_control: CacheControl | None = None
    """Has no effect."""


class Choice(Strict):
    """Whether tools may, must or must not be called."""

    type: Literal["auto", "any", "tool", "none"]
    """any: one must be; tool: the one of that name must be."""
    name: str | None = Field(None, pattern=NAME)
    """For tool: which."""
    disable_parallel_tool_use: bool | None = None
    """At most one call an answer."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("a name is given with type tool, and only with it")
        return self


class ThinkingSettings(Strict):
    """Whether the model thinks before it answers."""

    type: Literal["disabled", "adaptive"]
    """disabled, or adaptive: as the model's template does. A budget (enabled) cannot be kept and is refused."""


class OutputFormat(Strict):
    """Form of the text."""

    type: Literal["json_schema"]
    """json_schema."""
    schema_: dict[str, Any] = Field(alias="schema")
    """The schema."""


class OutputSettings(Strict):
    """About the answer."""

    format: OutputFormat | None = None
    """Its form."""
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    """How much is thought, for models whose chat template has such a switch; needs thinking of type adaptive."""


class Metadata(Strict):
    """About the sender."""

    user_id: str | None = Field(None, max_length=512)
    """Who asks, in your own words. Accepted, kept nowhere."""


class CountTokens(Request):
    """POST /v1/messages/count_tokens"""

    model: str = Field(min_length=1, max_length=256)
    """Id of a model or of one of its adapters, as /v1/models lists them."""
    messages: list[Turn] = Field(min_length=1, max_length=MOST_MESSAGES, json_schema_extra={"x-cost": "reading them"})
    """The conversation so far; the last message is the user's."""
    system: str | Annotated[list[TextBlock], Field(max_length=MOST_PARTS)] | None = says()
    """How the assistant shall be."""
    tools: list[CustomTool] | None = says([], "reading them", max_length=MOST_TOOLS)
    """Tools that the model may call. The server never runs them."""
    tool_choice: Choice | None = says("auto with tools, else none")
    """Whether tools may, must or must not be called, or which one must."""
    thinking: ThinkingSettings | None = says("disabled")
    """Whether the model thinks before it answers."""
    output_config: OutputSettings | None = says()
    """Form of the answer."""
    cache_control: CacheControl | None = says()
    """Has no effect: what was read before is found again by itself."""
    speed: str | None = only("standard", because="there is one speed")
    """standard."""

    @model_validator(mode="after")
    def _last(self) -> Self:
        if self.messages[-1].role != "user":
            raise invalid("messages", "The last message must be the user's: an answer cannot be begun by the client here.")
        if self.output_config and self.output_config.format:
            JsonSchema.model_validate({"name": "x", "schema": self.output_config.format.schema_})  # holds it to the same size
        return self


class Messages(CountTokens):
    """POST /v1/messages"""

    max_tokens: int = Field(ge=1, lt=2**31, json_schema_extra={"x-cost": "each token"})
    """Most tokens of the answer, thoughts included."""
    temperature: float | None = says(1.0, ge=0, le=1)
    """Chance: 0 always takes the likeliest token."""
    top_p: float | None = says(1.0, ge=0, le=1)
    """Choose among the likeliest tokens that together hold this probability."""
    top_k: int | None = says(None, ge=0, lt=2**31)
    """Choose among the k likeliest tokens; 0 means all."""
    stop_sequences: Annotated[list[StopText], Field(max_length=MOST_STOPS)] | None = says([])
    """Up to four texts that end the answer and are no part of it."""
    stream: bool | None = says(False)
    """Send events while the answer is written."""
    metadata: Metadata | None = says()
    """About the sender."""
    seed: int | None = says("a new one, told in danlu.applied", ge=-(2**63), lt=2**63)
    """Danlu's: the same model, messages, settings and seed give the same answer."""
    danlu: DanluBlock | None = says()
    """What to tell beyond Anthropic's fields."""
    service_tier: str | None = only("auto", "standard_only", because="there is one tier")
    """auto or standard_only."""
    container: None = only(because="nothing is run here")
    """Null."""
    inference_geo: None = only(because="the answer is written where the server runs")
    """Null."""


def chat_of(request: CountTokens) -> Chat:
    """The same as a chat. Raises ApiError."""
    choice = request.tool_choice
    kinds: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none"}
    fields: dict[str, Any] = {
        "model": request.model, "messages": messages_of(request),
        "tools": [_function(tool) for tool in request.tools or []] or None,
        "reasoning_effort": _effort(request),
    }  # fmt: skip
    if choice is not None:
        fields["tool_choice"] = kinds.get(choice.type) or {"type": "function", "function": {"name": choice.name}}
        fields["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    if request.output_config and request.output_config.format:
        schema = {"name": "output", "schema": request.output_config.format.schema_}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(request, Messages):
        fields |= {
            "max_tokens": request.max_tokens, "temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k,
            "stop": request.stop_sequences, "seed": request.seed, "danlu": request.danlu.model_dump() if request.danlu else None,
        }  # fmt: skip
    return as_chat(fields)


def _effort(request: CountTokens) -> str | None:
    """As OpenAI's API says it."""
    effort = request.output_config.effort if request.output_config else None
    if request.thinking is not None and request.thinking.type == "adaptive":
        return effort
    if effort is not None:
        raise invalid("output_config.effort", "'output_config.effort' needs thinking of type adaptive.")
    return "none"


def _function(tool: CustomTool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema, "strict": tool.strict}
    return {"type": "function", "function": function}


def messages_of(request: CountTokens) -> list[dict[str, Any]]:
    """Messages of a chat: results of tools are messages of their own, neighbours of one role are one."""
    found: list[dict[str, Any]] = []
    if request.system:
        found.append({"role": "system", "content": _text(request.system)})
    called: set[str] = set()
    for number, turn in enumerate(request.messages):
        blocks = [TextBlock(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
        if turn.role == "assistant":
            _join(found, _spoken(blocks))
            called |= {block.id for block in blocks if isinstance(block, ToolUseBlock)}
            continue
        for place, block in enumerate(blocks):
            if isinstance(block, ToolResultBlock):
                if block.tool_use_id not in called:
                    raise invalid(
                        f"messages[{number}].content[{place}].tool_use_id", "This result answers no tool_use before it."
                    )
                content = f"{'Error: ' if block.is_error else ''}{_text(block.content or '')}"
                found.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": content})
        if said := [block.text for block in blocks if isinstance(block, TextBlock)]:
            _join(found, {"role": "user", "content": "".join(said)})
    return found


def _text(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _spoken(blocks: Any) -> dict[str, Any]:
    """An assistant's turn."""
    made: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(block.text for block in blocks if isinstance(block, TextBlock)),
    }
    if thought := "".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock)):
        made["reasoning_content"] = thought
    calls = [block for block in blocks if isinstance(block, ToolUseBlock)]
    if calls:
        made["tool_calls"] = [
            {"id": call.id, "type": "function",
             "function": {"name": call.name, "arguments": json.dumps(call.input, ensure_ascii=False)}} for call in calls
        ]  # fmt: skip
    return made


def _join(found: list[dict[str, Any]], message: dict[str, Any]) -> None:
    """Add a message, to the one before it where that has the same role."""
    if found and found[-1]["role"] == message["role"]:
        before = found[-1]
        before["content"] = "\n".join(text for text in (before["content"], message["content"]) if text)
        if calls := before.get("tool_calls", []) + message.get("tool_calls", []):
            before["tool_calls"] = calls
        if thought := before.get("reasoning_content", "") + message.get("reasoning_content", ""):
            before["reasoning_content"] = thought
    else:
        found.append(message)


def renamed(error: ApiError) -> ApiError:
    """An error about a field of the chat, as one about the field that it came from."""
    names = {"stop": "stop_sequences", "response_format": "output_config.format", "reasoning_effort": "output_config.effort"}
    param = names.get(error.param or "", error.param)
    if param is not None and param.startswith("tools["):
        param = param.replace(".function.parameters", ".input_schema")
    return ApiError(error.status, error.message, type=error.type, param=param, code=error.code, headers=error.headers)
