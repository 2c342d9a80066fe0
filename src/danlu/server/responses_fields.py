"""Fields of POST /v1/responses, and what they mean as a chat: the stateless part of OpenAI's newer way of asking.

Items of the input become messages: what an assistant thought, said and called in a row is one of them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from danlu.server.conversation import MOST_MESSAGES, MOST_PARTS, MOST_TOOLS, NAME, UNSEEN, Strict
from danlu.server.errors import ApiError, invalid
from danlu.server.fields import MOST_TOP, Chat, DanluBlock, JsonSchema, _Harmless, only, says
from danlu.server.shapes import as_chat

_KEPT_NOTHING = "nothing is kept here: send the whole conversation as 'input'"
Status = Literal["in_progress", "completed", "incomplete"]


class TextPart(Strict):
    """A part of what is said."""

    type: Literal["input_text", "output_text", "refusal"]
    """input_text from people, output_text and refusal in an assistant's message."""
    text: str | None = None
    """The text."""
    refusal: str | None = None
    """The text of a refusal."""
    annotations: list[Any] | None = None
    """Of an earlier answer; no part of the text."""
    logprobs: list[Any] | None = None
    """Of an earlier answer; no part of the text."""
    parsed: Any = None
    """What the client made of an earlier answer; no part of the text."""

    @model_validator(mode="before")
    @classmethod
    def _seen(cls, data: Any) -> Any:
        kind = str(data.get("type")).replace("input_", "") if isinstance(data, Mapping) else ""
        unseen = {"image": UNSEEN["image_url"], "audio": UNSEEN["input_audio"], "file": UNSEEN["file"]}
        if kind in unseen:
            raise ValueError(f"the models here read text only, not {unseen[kind]}; leave this part out")
        return data

    @model_validator(mode="after")
    def _filled(self) -> Self:
        if self.plain is None:
            raise ValueError("a part needs its text")
        return self

    @property
    def plain(self) -> str | None:
        return self.refusal if self.type == "refusal" else self.text


Content = str | Annotated[list[TextPart], Field(min_length=1, max_length=MOST_PARTS)]


def joined(content: Content) -> str:
    """A content as one text."""
    return content if isinstance(content, str) else "".join(part.plain or "" for part in content)


class MessageItem(Strict):
    """What somebody says; also an assistant's message as an answer held it."""

    type: Literal["message"] = "message"
    """message; may be left out."""
    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks."""
    content: Content
    """What is said."""
    id: str | None = None
    """Of an earlier answer; has no effect."""
    status: Status | None = None
    """Of an earlier answer; has no effect."""
    phase: Literal["commentary", "final_answer"] | None = None
    """Has no effect."""


class CallItem(Strict):
    """A call that the assistant made."""

    type: Literal["function_call"]
    """Says so."""
    call_id: str = Field(min_length=1, max_length=256)
    """By this function_call_output says which call it answers."""
    name: str = Field(pattern=NAME)
    """What was called."""
    arguments: str
    """A JSON object, written as text."""
    id: str | None = None
    """Of an earlier answer; has no effect."""
    status: Status | None = None
    """Of an earlier answer; has no effect."""
    parsed_arguments: Any = None
    """What the client made of the arguments; has no effect."""


class OutputItem(Strict):
    """What a function gave back."""

    type: Literal["function_call_output"]
    """Says so."""
    call_id: str = Field(min_length=1, max_length=256)
    """The call that is answered."""
    output: Content
    """What came back."""
    id: str | None = None
    """Has no effect."""
    status: Status | None = None
    """Has no effect."""


class Thought(Strict):
    """A piece of reasoning."""

    type: Literal["reasoning_text", "summary_text"]
    """Which."""
    text: str
    """The text."""


class ReasoningItem(Strict):
    """What the assistant thought before."""

    type: Literal["reasoning"]
    """Says so."""
    id: str | None = None
    """Has no effect."""
    summary: list[Thought] | None = None
    """Has no effect: the model is given what it thought, not a summary."""
    content: list[Thought] | None = None
    """What it thought; given to the chat template."""
    encrypted_content: None = None
    """Nothing is encrypted here."""
    status: Status | None = None
    """Has no effect."""


def _kind(item: Any) -> str | None:
    """What an item's type says; messages need not say it."""
    return item.get("type", "message") if isinstance(item, Mapping) else getattr(item, "type", None)


Item = Annotated[
    Annotated[MessageItem, Tag("message")] | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")] | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind, custom_error_type="item_kind", custom_error_message="items of the input are messages, function_call, "
                  "function_call_output and reasoning; others are not known here"),
]  # fmt: skip


class FunctionTool(Strict):
    """A function that the model may call."""

    type: Literal["function"]
    """Only functions: nothing is searched, run or fetched by this server."""
    name: str = Field(pattern=NAME)
    """Letters, digits, _ and -; 64 at most."""
    description: str | None = Field(None, max_length=16384)
    """What it does and when to call it."""
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments."""
    strict: bool | None = None
    """Hold the arguments to the schema while they are written."""


class FunctionChoice(Strict):
    """This function must be called."""

    type: Literal["function"]
    """Says so."""
    name: str = Field(pattern=NAME)
    """Its name."""


class AllowedChoice(Strict):
    """Only some of the tools may be called."""

    type: Literal["allowed_tools"]
    """Says so."""
    mode: Literal["auto", "required"]
    """auto: may be called; required: one of them must be."""
    tools: list[FunctionChoice] = Field(min_length=1, max_length=MOST_TOOLS)
    """Which ones."""


class Format(Strict):
    """text, json_object, or json_schema with name and schema."""

    type: Literal["text", "json_object", "json_schema"]
    """Which of them."""
    name: str | None = Field(None, pattern=NAME)
    """For json_schema: for people."""
    description: str | None = Field(None, max_length=16384)
    """For json_schema: for people."""
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    """For json_schema: the schema."""
    strict: bool | None = None
    """The answer always follows the schema here, whatever is said."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        wanted = self.type == "json_schema"
        if wanted != (self.schema_ is not None) or (self.name is not None and not wanted) or (wanted and self.name is None):
            raise ValueError("name and schema are given with type json_schema, and only with it")
        return self


class TextSettings(Strict):
    """About the text of the answer."""

    format: Format | None = None
    """Its form."""
    verbosity: Literal["medium"] | None = None
    """medium: no model here has such a switch."""


class ReasoningSettings(Strict):
    """About what is thought."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """For models whose chat template knows reasoning; refused for others unless none."""
    summary: None = None
    """Null: thoughts are told as they are, in full."""
    generate_summary: None = None
    """Null."""


class Responses(_Harmless):
    """POST /v1/responses"""

    model: str = Field(min_length=1, max_length=256)
    """Id of a model or of one of its adapters, as /v1/models lists them."""
    input: Annotated[str, Field(min_length=1)] | Annotated[list[Item], Field(min_length=1, max_length=MOST_MESSAGES)] = Field(
        json_schema_extra={"x-cost": "reading it"}
    )
    """A text, or a list of items: messages, function_call, function_call_output, reasoning."""
    instructions: str | None = says(max_length=1 << 20)
    """A system message before the input."""
    temperature: float | None = says(1.0, ge=0, le=2)
    """Chance: 0 always takes the likeliest token."""
    top_p: float | None = says(1.0, ge=0, le=1)
    """Choose among the likeliest tokens that together hold this probability."""
    seed: int | None = says("a new one, told in danlu.applied", ge=-(2**63), lt=2**63)
    """Danlu's: the same model, input, settings and seed give the same answer."""
    max_output_tokens: int | None = says(
        "what the context still holds, within the server's limit", "each token", ge=1, le=2**31 - 1
    )
    """Most tokens of the answer, thoughts included."""
    text: TextSettings | None = says()
    """Form of the text."""
    reasoning: ReasoningSettings | None = says()
    """How much is thought."""
    tools: list[FunctionTool] | None = says([], "reading them", max_length=MOST_TOOLS)
    """Functions that the model may call. The server never runs them."""
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedChoice | None = says("auto with tools, else none")
    """Whether tools may, must or must not be called, or which one must."""
    parallel_tool_calls: bool | None = says(True)
    """Whether one answer may call several tools."""
    top_logprobs: int | None = says(0, "some bytes a token", ge=0, le=MOST_TOP)
    """With include message.output_text.logprobs: so many of the likeliest tokens beside each."""
    include: list[Literal["message.output_text.logprobs"]] | None = says([])
    """message.output_text.logprobs tells the log-probability of each token."""
    stream: bool | None = says(False)
    """Send typed events while the answer is written."""
    danlu: DanluBlock | None = says()
    """What to tell beyond OpenAI's fields."""
    store: bool | None = only(False, because=_KEPT_NOTHING)
    """false."""
    previous_response_id: None = only(because=_KEPT_NOTHING)
    """Null."""
    conversation: None = only(because=_KEPT_NOTHING)
    """Null."""
    prompt: None = only(because="there are no stored prompts here")
    """Null."""
    background: bool | None = only(False, because="an answer is written while its request is open")
    """false."""
    truncation: str | None = only("disabled", because="nothing is ever cut silently")
    """disabled."""
    stream_options: None = only(because="streams have no options")
    """Null."""
    max_tool_calls: None = only(because="the server runs no tools")
    """Null."""
    context_management: None = only(because=_KEPT_NOTHING)
    """Null."""
    prompt_cache_options: None = only(because="the cache has no options")
    """Null."""
    prompt_cache_retention: str | None = only("in_memory", because="what was read is remembered as long as there is room")
    """in_memory."""
    moderation: None = only(because="verdicts are given by /v1/chat/completions and /v1/moderations")
    """Null."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.top_logprobs and not self.include:
            raise invalid("top_logprobs", "'top_logprobs' needs include: ['message.output_text.logprobs'].")
        if self.text and self.text.format and self.text.format.schema_ is not None:
            JsonSchema.model_validate({"name": "x", "schema": self.text.format.schema_})  # holds it to the same size
        return self


def chat_of(request: Responses) -> Chat:
    """The same as a chat. Raises ApiError."""
    choice = request.tool_choice
    if isinstance(choice, FunctionChoice):
        chosen: Any = {"type": "function", "function": {"name": choice.name}}
    elif isinstance(choice, AllowedChoice):
        named = [{"type": "function", "function": {"name": one.name}} for one in choice.tools]
        chosen = {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}
    else:
        chosen = choice
    logprobs = bool(request.include)
    fields = {
        "model": request.model, "messages": messages_of(request), "temperature": request.temperature, "top_p": request.top_p,
        "seed": request.seed, "max_completion_tokens": request.max_output_tokens,
        "response_format": _form(request.text.format) if request.text and request.text.format else None,
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "tools": [{"type": "function", "function": tool.model_dump(exclude={"type"})} for tool in request.tools or []] or None,
        "tool_choice": chosen, "parallel_tool_calls": request.parallel_tool_calls, "logprobs": logprobs,
        "top_logprobs": request.top_logprobs if logprobs else None,
        "danlu": request.danlu.model_dump() if request.danlu else None,
    }  # fmt: skip
    return as_chat(fields)


def _form(form: Format) -> dict[str, Any]:
    if form.type != "json_schema":
        return {"type": form.type}
    return {"type": form.type, "json_schema": {"name": form.name, "schema": form.schema_}}


def messages_of(request: Responses) -> list[dict[str, Any]]:
    """Messages of a chat: neighbouring items of the assistant are one."""
    found: list[dict[str, Any]] = []
    if request.instructions is not None:
        found.append({"role": "system", "content": request.instructions})
    called: set[str] = set()
    turn: dict[str, Any] | None = None
    given = [MessageItem(role="user", content=request.input)] if isinstance(request.input, str) else request.input
    for number, item in enumerate(given):
        match item:
            case OutputItem():
                if item.call_id not in called:
                    raise invalid(f"input[{number}].call_id", "This output answers no function_call before it.")
                turn = None
                found.append({"role": "tool", "tool_call_id": item.call_id, "content": joined(item.output)})
            case MessageItem() if item.role != "assistant":
                turn = None
                found.append({"role": item.role, "content": joined(item.content)})
            case _:
                if turn is None or (isinstance(item, ReasoningItem | MessageItem) and (turn["content"] or "tool_calls" in turn)):
                    turn = {"role": "assistant", "content": ""}
                    found.append(turn)
                _add(turn, item)
                if isinstance(item, CallItem):
                    called.add(item.call_id)
    return found


def _add(turn: dict[str, Any], item: Item) -> None:
    """Put an item into the assistant's turn."""
    if isinstance(item, MessageItem):
        turn["content"] = joined(item.content)
    elif isinstance(item, CallItem):
        function = {"name": item.name, "arguments": item.arguments}
        turn.setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})
    elif isinstance(item, ReasoningItem):
        thought = "".join(part.text for part in item.content or ())
        turn["reasoning_content"] = turn.get("reasoning_content", "") + thought


def renamed(error: ApiError) -> ApiError:
    """An error about a field of the chat, as one about the field that it came from."""
    names = {"messages": "input", "max_completion_tokens": "max_output_tokens", "max_tokens": "max_output_tokens",
             "response_format": "text.format", "reasoning_effort": "reasoning.effort", "logprobs": "include"}  # fmt: skip
    param = error.param
    if param is not None and (name := names.get(param.split("[")[0].split(".")[0])):
        param = name
    elif param is not None and param.startswith("tools["):
        param = param.replace(".function", "", 1)
    return ApiError(error.status, error.message, type=error.type, param=param, code=error.code, headers=error.headers)
