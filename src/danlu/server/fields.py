"""Every field of every request, declared once: type, limits, default, cost and meaning. Nothing else decides what is accepted.

Validation, the OpenAPI document and the tables in the docs are made from these models (openapi.py, tools of the docs). A field
that is not here is refused by its name; one that OpenAI's API has and this server does not do is here with the values that ask
for nothing, and any other value is refused with `unsupported_parameter`. `x-default` is what null or leaving it out means,
`x-cost` what a request pays for the field.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from danlu.server.conversation import MOST_MESSAGES, MOST_TOOLS, Message, Strict, Tool, ToolChoice, check_calls
from danlu.server.errors import invalid, unsupported

MOST_CHOICES, MOST_PROMPTS, MOST_STOPS, MOST_STOP_CHARS, MOST_BIASES, MOST_TOP = 8, 64, 4, 256, 1024, 20
MOST_DOCUMENTS, MOST_CHOICE_TEXTS, MOST_SCHEMA_BYTES, MOST_METADATA = 512, 1024, 65536, 16
_INT64 = 2**63

FREE, EACH = "none", "one answer more for each"


def says(default: Any = None, cost: str = FREE, **limits: Any) -> Any:
    """A field that may be null or left out, and then means `default`."""
    return Field(None, json_schema_extra={"x-default": default, "x-cost": cost}, **limits)


Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
StopText = Annotated[str, Field(min_length=1, max_length=MOST_STOP_CHARS)]


def only(*accepted: Any, because: str) -> Any:
    """A field of OpenAI's that asks for something not done here: null and the values that ask for nothing are accepted."""
    return Field(
        None, json_schema_extra={"x-default": None, "x-cost": FREE, "x-accepts": [None, *accepted], "x-because": because}
    )


class Request(Strict):
    """What all requests share."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        for name in data if isinstance(data, Mapping) else ():
            field = cls.model_fields.get(name)
            extra = field.json_schema_extra if field else None
            if isinstance(extra, Mapping) and "x-accepts" in extra and data[name] not in extra["x-accepts"]:  # type: ignore[operator]
                raise unsupported(name, f"'{name}' is not supported with this value: {extra['x-because']}. Leave it out.")
        return data

    def given(self, name: str) -> Any:
        """The value of a field, or its default where it is null or left out."""
        value = getattr(self, name)
        extra = type(self).model_fields[name].json_schema_extra
        return extra.get("x-default") if value is None and isinstance(extra, Mapping) else value


class _Harmless(Request):
    """Fields about the sender and the service."""

    user: str | None = says(max_length=512)
    """Who asks, in your own words. Accepted, kept nowhere."""
    safety_identifier: str | None = says(max_length=512)
    """Who asks, for OpenAI's policies. Accepted, kept nowhere."""
    metadata: dict[str, str] | None = says(max_length=MOST_METADATA)
    """Notes of your own. Accepted, kept nowhere."""
    prompt_cache_key: str | None = says(max_length=512)
    """OpenAI steers its cache by it. Accepted without effect: what one API key had read is found again for that key."""
    service_tier: str | None = only("auto", "default", because="there is one tier")
    """There is one tier: auto or default."""


class DanluBlock(Strict):
    """What to tell beyond OpenAI's fields."""

    applied: bool = False
    """Add the block `danlu.applied` to the answer: what was done with this request, in numbers."""


class JsonSchema(Strict):
    """A schema with its name."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    """For people; has no effect on the answer."""
    description: str | None = Field(None, max_length=16384)
    """For people; has no effect on the answer."""
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    """JSON schema of the answer; at most 64 KiB as JSON."""
    strict: bool | None = None
    """The answer always follows the schema here, whatever is said."""

    @model_validator(mode="after")
    def _small(self) -> Self:
        if len(json.dumps(self.schema_, ensure_ascii=False).encode()) > MOST_SCHEMA_BYTES:
            raise ValueError(f"a schema has at most {MOST_SCHEMA_BYTES} bytes")
        return self


class ResponseFormat(Strict):
    """text: anything; json_object: any JSON object; json_schema: what the schema says."""

    type: Literal["text", "json_object", "json_schema"]
    """Which of them."""
    json_schema: JsonSchema | None = None
    """For json_schema."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema is given with type json_schema, and only with it")
        return self


class Drawn(_Harmless):
    """How an answer is drawn: the same for chats and for texts that go on."""

    model: str = Field(min_length=1, max_length=256)
    """Id of a model or of one of its adapters, as /v1/models lists them."""
    adapter: str | None = says(max_length=256)
    """Name of an adapter of the model; the same as asking for `model:adapter`."""
    temperature: float | None = says(1.0, ge=0, le=2)
    """Chance: 0 always takes the likeliest token, 1 follows the model's own probabilities."""
    top_p: float | None = says(1.0, ge=0, le=1)
    """Choose among the likeliest tokens that together hold this probability; 0 takes the likeliest."""
    top_k: int | None = says(None, ge=-1, le=2**31 - 1)
    """Choose among the k likeliest tokens; 0 and -1 mean all."""
    min_p: float | None = says(0.0, ge=0, le=1)
    """Choose among tokens at least this fraction as likely as the likeliest."""
    typical_p: float | None = says(1.0, gt=0, le=1)
    """Choose among the tokens whose surprise is nearest to the expected one and that together hold this probability."""
    repetition_penalty: float | None = says(1.0, gt=0, le=10)
    """Above 1, tokens of prompt and answer become less likely."""
    frequency_penalty: float | None = says(0.0, ge=-2, le=2)
    """Taken from a token's logit for each time it stands in the answer so far."""
    presence_penalty: float | None = says(0.0, ge=-2, le=2)
    """Taken from a token's logit once it stands in the answer so far."""
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = says({}, max_length=MOST_BIASES)
    """Added to the logits of token ids (decimal numbers as names), -100 to 100."""
    seed: int | None = says("a new one, told in danlu.applied", ge=-_INT64, lt=_INT64)
    """The same model, prompt, settings and seed give the same answer; system_fingerprint names the model and how it computes."""
    n: int | None = says(1, EACH, ge=1, le=MOST_CHOICES)
    """Answers to the same prompt, which is read once."""
    stop: StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS)] | None = says([])
    """Up to four texts that end the answer and are no part of it."""
    min_tokens: int | None = says(0, ge=0, le=2**31 - 1)
    """The model cannot end the answer before so many tokens."""
    ignore_eos: bool | None = says(False)
    """Go on to max_tokens or a stop text even where the model would end."""
    regex: str | None = says(None, "the compilation of the expression", min_length=1, max_length=16384)
    """The answer is a text that this regular expression matches whole."""
    grammar: str | None = says(None, "the compilation of the grammar", min_length=1, max_length=65536)
    """The answer is a text of this grammar (Lark's notation)."""
    choices: Annotated[list[Text], Field(min_length=1, max_length=MOST_CHOICE_TEXTS)] | None = says()
    """The answer is one of these texts."""
    response_format: ResponseFormat | None = says({"type": "text"}, "the compilation of the schema")
    """Form of the answer."""
    stream: bool | None = says(False)
    """Send the answer while it is written, as server-sent events."""
    stream_options: "StreamOptions | None" = says()
    """Only with stream."""
    danlu: DanluBlock | None = says()
    """What to tell beyond OpenAI's fields."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options", "'stream_options' is only allowed with stream: true.")
        forms = [name for name in ("regex", "grammar", "choices") if getattr(self, name) is not None]
        forms += ["response_format"] if self.response_format is not None and self.response_format.type != "text" else []
        if len(forms) > 1:
            raise invalid(forms[0], f"An answer has one form: give one of {', '.join(forms)}.")
        for name in self.logit_bias or {}:
            if not (name.isascii() and name.isdecimal() and len(name) < 10):
                raise invalid("logit_bias", "The names in 'logit_bias' are token ids: decimal numbers from 0.")
        return self

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])


class StreamOptions(Strict):
    """About a stream."""

    include_usage: bool | None = None
    """Send one more chunk at the end with the tokens that were used."""
    include_obfuscation: bool | None = None
    """Fill events up to even lengths, so that who sees only lengths learns less of the text."""


class Moderate(Strict):
    """Judge prompt and answer."""

    model: str | None = None
    """The guard, as /v1/moderations knows it; left out: the server's."""
    policy: None = None
    """OpenAI's policies do not exist here."""


class Chat(Drawn):
    """POST /v1/chat/completions"""

    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES, json_schema_extra={"x-cost": "reading them"})
    """The conversation so far."""
    max_completion_tokens: int | None = says(
        "what the context still holds, within the server's limit", "each token", ge=1, le=2**31 - 1
    )
    """Most tokens of an answer."""
    max_tokens: int | None = says("max_completion_tokens, which goes first", "each token", ge=1, le=2**31 - 1)
    """The older name of max_completion_tokens."""
    logprobs: bool | None = says(False, "some bytes a token")
    """Tell the log-probability of each token."""
    top_logprobs: int | None = says(0, "some bytes a token", ge=0, le=MOST_TOP)
    """With logprobs: so many of the likeliest tokens beside each."""
    tools: list[Tool] | None = says([], "reading them", max_length=MOST_TOOLS)
    """Functions that the model may call. The server never runs them."""
    tool_choice: ToolChoice | None = says("auto with tools, else none")
    """Whether tools may, must or must not be called, or which one must."""
    parallel_tool_calls: bool | None = says(True)
    """Whether one answer may call several tools."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = says("as the template does")
    """For models whose chat template knows reasoning; refused for others unless none."""
    moderation: Moderate | None = says(None, "the guard reads prompt and answer")
    """Add the verdict of the server's guard on prompt and answer."""
    chat_template_kwargs: dict[str, bool | int | str] | None = says(None, max_length=4)
    """Switches of the chat template, by name: enable_thinking, reasoning_effort, date_string, custom_instructions."""
    modalities: list[str] | None = only(["text"], because="the models here write text only")
    """["text"]."""
    verbosity: str | None = only("medium", because="no model here has such a switch; ask for long or short answers in the prompt")
    """medium."""
    store: bool | None = only(False, because="nothing is kept here")
    """false."""
    audio: None = only(because="no sound is made")
    """Null."""
    prediction: None = only(because="the engine guesses by itself, and no guess changes a token")
    """Null."""
    web_search_options: None = only(because="the server fetches nothing")
    """Null."""
    functions: None = only(because="tools have replaced it")
    """Null; use tools."""
    function_call: None = only(because="tool_choice has replaced it")
    """Null; use tool_choice."""
    prompt_cache_options: None = only(because="the cache has no options")
    """Null."""

    @model_validator(mode="after")
    def _chat(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs", "'top_logprobs' needs logprobs: true.")
        if wrong := check_calls(self.messages):
            raise invalid(wrong, f"'{wrong}' answers no call that an assistant's message before it made.")
        return self


_NOT_WITH_BEAMS = {
    "temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "frequency_penalty", "presence_penalty",
    "logit_bias", "seed", "stop", "min_tokens", "ignore_eos", "regex", "grammar", "choices", "response_format", "stream",
    "logprobs", "echo", "best_of",
}  # fmt: skip


class Completion(Drawn):
    """POST /v1/completions"""

    prompt: str | Ids | Annotated[list[str] | list[Ids], Field(min_length=1, max_length=MOST_PROMPTS)] = Field(
        json_schema_extra={"x-cost": "reading it"}
    )
    """What the text goes on from: a text, a list of texts, token ids, or a list of lists of them."""
    max_tokens: int | None = says(16, "each token", ge=0, le=2**31 - 1)
    """Most tokens of an answer; 0 with echo only reads the prompt."""
    logprobs: int | None = says(None, "some bytes a token", ge=0, le=MOST_TOP)
    """Tell the log-probability of each token and of so many of the likeliest (OpenAI allows 5)."""
    echo: bool | None = says(False)
    """Put the prompt before the answer; with logprobs, also its tokens with theirs."""
    best_of: int | None = says("n", EACH, ge=1, le=MOST_CHOICES)
    """Write so many answers and give the n with the highest log-probability a token."""
    suffix: str | None = says(None, max_length=1 << 20)
    """Text that follows the gap, for models trained to fill one."""
    beams: int | None = says(None, EACH, ge=2, le=MOST_CHOICES)
    """Search for the likeliest answers as a whole with so many beams, and give the n best; nothing is drawn then."""
    length_penalty: float | None = says(1.0, ge=-10, le=10)
    """With beams: scores are divided by length to this power; above 0 longer answers gain."""
    early_stopping: bool | Literal["never"] | None = says(False)
    """With beams: true stops at the first `beams` finished answers, "never" when no beam can get better at all."""

    @model_validator(mode="after")
    def _searched(self) -> Self:
        given = {name for name in self.model_fields_set if getattr(self, name) not in (None, False)}
        if self.beams is None:
            for name in ("length_penalty", "early_stopping"):
                if name in given:
                    raise invalid(name, f"'{name}' is only allowed with beams.")
            return self
        if wrong := sorted(given & _NOT_WITH_BEAMS):
            raise invalid(wrong[0], f"'{wrong[0]}' has no meaning with beams, which draw nothing and are known at the end. "
                                    f"Leave it out.")  # fmt: skip
        if self.beams < (self.n or 1):
            raise invalid("beams", "'beams' must not be below n.")
        return self

    @model_validator(mode="after")
    def _completion(self) -> Self:
        if self.best_of is not None:
            if self.best_of < (self.n or 1):
                raise invalid("best_of", "'best_of' must not be below n.")
            if self.stream and self.best_of > (self.n or 1):
                raise invalid("best_of", "'best_of' above n cannot be streamed: which answers are best is known at the end.")
        if self.max_tokens == 0 and not self.echo:
            raise invalid("max_tokens", "'max_tokens': 0 needs echo: true; else nothing would come back.")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else list(self.prompt)  # type: ignore[list-item]
