"""Fields of the requests that read and write nothing new: embeddings, rerank, moderations, tokens (see fields.py)."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from danlu.server.conversation import Message, Strict, Tool, check_calls
from danlu.server.errors import invalid
from danlu.server.fields import MOST_DOCUMENTS, MOST_PROMPTS, Ids, Request, Text, _Harmless, says

MOST_INPUTS = 2048
"""Texts to be embedded at once; they are read in parts."""
READING = "reading it"


class Embeddings(_Harmless):
    """POST /v1/embeddings"""

    model: str = Field(min_length=1, max_length=256)
    """Id of a model that makes vectors."""
    input: Text | Ids | Annotated[list[Text] | list[Ids], Field(min_length=1, max_length=MOST_INPUTS)] = Field(
        json_schema_extra={"x-cost": READING}
    )
    """A text, a list of texts, token ids, or a list of lists of them."""
    encoding_format: Literal["float", "base64"] | None = says("float")
    """float: lists of numbers; base64: little-endian float32 (OpenAI's Python client asks for it by itself)."""
    dimensions: int | None = says("all", ge=1, le=65536)
    """Keep only the first so many numbers of each vector, brought to length one again; for models trained for it (Matryoshka)."""


class Document(Strict):
    """A text to be ranked."""

    text: Text
    """The text."""


class Rerank(_Harmless):
    """POST /v1/rerank"""

    model: str = Field(min_length=1, max_length=256)
    """Id of a model that makes vectors (cosine of query and document), or of one that judges pairs."""
    query: Text
    """What the documents are compared with."""
    documents: Annotated[list[Text | Document], Field(min_length=1, max_length=MOST_DOCUMENTS)] = Field(
        json_schema_extra={"x-cost": READING}
    )
    """Texts, or objects with a text."""
    top_n: int | None = says("all", ge=1, le=MOST_DOCUMENTS)
    """Give the best so many."""
    return_documents: bool | None = says(True)
    """Whether the answer repeats the documents."""


class Classify(_Harmless):
    """POST /v1/classify"""

    model: str = Field(min_length=1, max_length=256)
    """Id of a model that tells classes apart, or gives a number."""
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS)] = Field(
        json_schema_extra={"x-cost": READING}
    )
    """A text or a list of texts."""


class ModerationPart(Strict):
    """A text to be judged; images are not read."""

    type: Literal["text"]
    """text."""
    text: Text
    """The text."""


class Moderations(Request):
    """POST /v1/moderations"""

    model: str | None = says("the server's guard", max_length=256)
    """The guard, by the name that the server gives it."""
    input: Text | Annotated[list[Text] | list[ModerationPart], Field(min_length=1, max_length=MOST_PROMPTS)] = Field(
        json_schema_extra={"x-cost": READING}
    )
    """A text or a list of texts."""


class Tokenize(Request):
    """POST /tokenize"""

    model: str | None = says("the first that is served", max_length=256)
    """Id of a model."""
    prompt: str | None = says()
    """A text; special tokens in it stay text."""
    messages: Annotated[list[Message], Field(min_length=1)] | None = says()
    """In place of the prompt: a conversation, put through the model's chat template."""
    tools: list[Tool] | None = says([])
    """With messages: tools that the template shows."""
    add_generation_prompt: bool | None = says(True)
    """With messages: whether the assistant's turn is opened."""
    add_special_tokens: bool | None = says(True)
    """With a prompt: whether the token that begins a document stands before it, as in a completion."""
    return_token_strs: bool | None = says(False)
    """Also give each token as text."""

    @model_validator(mode="after")
    def _one(self) -> Any:
        if (self.prompt is None) == (self.messages is None):
            raise invalid("prompt", "Give either 'prompt' or 'messages'.")
        if wrong := check_calls(self.messages or []):
            raise invalid(wrong, f"'{wrong}' answers no call that an assistant's message before it made.")
        return self


class Detokenize(Request):
    """POST /detokenize"""

    model: str | None = says("the first that is served", max_length=256)
    """Id of a model."""
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=1 << 20)]
    """Token ids."""
