"""response_format: C25 and C50 to C56."""

import json
import random
from enum import Enum
from typing import Any

from pydantic import BaseModel

from danlu.apps.conform.ask import CHAT, chat, message, openai_client, refuse, texts
from danlu.apps.conform.ask import chunks as streamed_chat
from danlu.apps.conform.chat import TOOL
from danlu.apps.conform.check import Failed, check, every, expect, shorten
from danlu.apps.conform.target import Target
from danlu.apps.conform.valid import problem

_OPEN = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": False}
_BELOW = {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 1}
_TREE = {
    "type": "object", "properties": {"leaf": {"type": "boolean"}, "below": _BELOW}, "required": ["leaf", "below"],
    "additionalProperties": False,
}  # fmt: skip
KEYWORDS: dict[str, dict[str, Any]] = {
    "properties, required, additionalProperties": _OPEN,
    "enum": {"enum": ["tea", "茶", 3, None]},
    "const": {"const": {"kind": "tea"}},
    "anyOf with null": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    "items, minItems, maxItems": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    "minLength, maxLength": {"type": "string", "minLength": 2, "maxLength": 5},
    "pattern": {"type": "string", "pattern": "^[ab]{2,4}$"},
    "minimum, maximum": {"type": "integer", "minimum": 10, "maximum": 20},
    "format date": {"type": "string", "format": "date"},
    "$ref and $defs, recursive": {"$ref": "#/$defs/tree", "$defs": {"tree": _TREE}},
    "allOf of one": {"allOf": [{"type": "boolean"}]},
}


@check("C50")
def json_object(target: Target) -> None:
    """With json_object answers are JSON objects, unless cut by length."""
    one = message(target, "json_object", response_format={"type": "json_object"}, max_tokens=64)
    if not cut(one):
        expect(isinstance(json.loads(one["message"]["content"]), dict), "a JSON object", one["message"]["content"])


@check("C51a")
def json_schema(target: Target) -> None:
    """With json_schema answers fit their schema, unless cut by length."""
    chat(target)
    every(filter(None, [fault(target, _OPEN)]))


@check("C51b")
def json_streamed(target: Target) -> None:
    """The same answer streamed and in one piece."""
    fields = {"response_format": _format(_OPEN), "max_tokens": 120}
    whole = message(target, "json_schema", **fields)["message"]["content"]
    found = texts(streamed_chat(target, "json_schema", **fields))
    expect(found == whole, repr(whole), repr(found))


@check("C52")
def keywords(target: Target) -> None:
    """The keywords that clients send are taken and kept to."""
    message(target, "json_schema", response_format=_format(_OPEN), max_tokens=4)
    every(f"{name}: {wrong}" for name, schema in KEYWORDS.items() if (wrong := fault(target, _boxed(schema))))


@check("C53")
def unsupported_keyword(target: Target) -> None:
    """A keyword that the server cannot keep to is refused by name, not ignored."""
    message(target, "json_schema", response_format=_format(_OPEN), max_tokens=4)
    schema = {"type": "string", "enum": ["a", "b"], "not": {"const": "a"}}
    for seed in range(4):
        fields = {"response_format": _format(_boxed(schema)), "temperature": 1, "seed": seed, "max_tokens": 60}
        reply = target.post(CHAT, target.chat(**fields))
        if reply.status in (400, 422):
            expect("not" in str(reply.error().get("message")), "an error that names `not`", reply)
            return
        one = reply.json()["choices"][0]
        if not cut(one):
            expect(json.loads(one["message"]["content"]) == {"it": "b"}, "`not` kept to, or refused", one["message"]["content"])


@check("C54")
def huge_schemas(target: Target) -> None:
    """Schemas beyond all measure are refused or answered, never 5xx, and the server goes on."""
    message(target, "json_schema", response_format=_format(_OPEN), max_tokens=4)
    deep: dict[str, Any] = {"type": "boolean"}
    for _ in range(400):
        deep = {"type": "array", "items": deep}
    hostile = {
        "400 levels": deep,
        "20,000 names in an enum": {"enum": [f"name {number}" for number in range(20_000)]},
        "a billion items": {"type": "array", "items": {"type": "boolean"}, "minItems": 10**9},
        "an exponential pattern": {"type": "string", "pattern": "^(a|a)*(a?){40}a{40}$|(x+x+)+y"},
        "a reference to itself": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        "a reference to another place": {"$ref": "https://example.com/schema.json"},
        "no schema": 7,
    }
    replies = {name: target.post(CHAT, target.chat(response_format=_format(_boxed(schema)), max_tokens=4))
               for name, schema in hostile.items()}  # fmt: skip
    every(f"{name} answers {shorten(str(reply))}" for name, reply in replies.items() if reply.status >= 500)
    chat(target)


@check("C25")
def parse_cut(target: Target) -> None:
    """The openai client's parse() raises LengthFinishReasonError where the limit cut the answer."""
    client = openai_client(target)
    message(target, "json_schema", response_format=_format(_OPEN), max_tokens=4)
    try:
        client.chat.completions.parse(**target.chat(max_tokens=1), response_format=Order)
    except Exception as error:  # whatever the client makes of it is what is looked at
        expect(type(error).__name__ == "LengthFinishReasonError", "LengthFinishReasonError", error)
    else:
        raise Failed("LengthFinishReasonError", "an answer")


@check("C55a")
def parse_nested(target: Target) -> None:
    """The openai client's parse() gives nested models, enums, optional and recursive fields back."""
    client = openai_client(target)
    message(target, "json_schema", response_format=_format(_OPEN), max_tokens=4)
    for kind in (Order, Shelf):
        try:
            found = client.chat.completions.parse(**target.chat(max_tokens=400), response_format=kind).choices[0]
        except Exception as error:
            expect(type(error).__name__ == "LengthFinishReasonError", f"a {kind.__name__} or LengthFinishReasonError", error)
        else:
            expect(isinstance(found.message.parsed, kind), f"a {kind.__name__}", found)


@check("C55b")
def random_schemas(target: Target) -> None:
    """Random schemas are kept to, unless cut by length."""
    message(target, "json_schema", response_format=_format(_OPEN), max_tokens=4)
    schemas = (random_schema(random.Random(seed)) for seed in range(12))  # noqa: S311  # no secret is made
    every(f"{schema}: {wrong}" for schema in schemas if (wrong := fault(target, _boxed(schema))))


@check("C56")
def schema_with_tools(target: Target) -> None:
    """A schema together with tools is kept to or refused."""
    one = message(
        target, "tools with json_schema", tools=[TOOL], tool_choice="none", response_format=_format(_OPEN), max_tokens=120
    )
    if not cut(one):
        wrong = problem(json.loads(one["message"]["content"]), _OPEN)
        expect(wrong is None, "an answer that fits the schema", wrong)


class Kind(Enum):
    """Words to choose from."""

    GREEN = "green"
    BLACK = "black"


class Cup(BaseModel):
    """A part of an order."""

    kind: Kind
    sugar: bool | None


class Order(BaseModel):
    """Something nested, with an enum and an optional field."""

    hot: bool
    cup: Cup


class Shelf(BaseModel):
    """Something recursive."""

    full: bool
    below: "Shelf | None"


def fault(target: Target, schema: dict[str, Any]) -> str | None:
    """Why an answer under a schema is wrong; None for one that fits or was cut by length."""
    body = target.chat(response_format=_format(schema), max_tokens=200)
    reply = target.post(CHAT, body)
    if reply.status == 501:
        refuse(reply, CHAT, "json_schema")
    if reply.status != 200:
        return f"answers {shorten(str(reply))}"
    one = reply.json()["choices"][0]
    try:
        if cut(one):
            return None
        return problem(json.loads(one["message"]["content"]), schema)
    except Failed as failed:
        return str(failed)
    except ValueError:
        return f"{one['message']['content']!r} with finish_reason {one['finish_reason']} is no JSON"


def cut(one: dict[str, Any]) -> bool:
    """Whether the limit cut an answer. Raises Failed for one that had not even begun as an object: then nothing held it."""
    if one["finish_reason"] != "length":
        return False
    content = (one["message"]["content"] or "").lstrip()
    expect(content[:1] in ("", "{"), "the beginning of a JSON object", repr(content))
    return True


def random_schema(dice: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema of the kinds that clients send; answers to it are short."""
    kind = dice.choice(("boolean", "null", "integer", "string", "enum", "anyOf", *(("array", "object") if depth else ())))
    match kind:
        case "integer":
            low = dice.randrange(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + dice.randrange(100)}
        case "string":
            return {"type": "string", "maxLength": dice.randrange(1, 6)}
        case "enum":
            return {"enum": dice.sample(["tea", "茶", "😀", 'a "quote"', 1, 2.5, None, True], dice.randrange(1, 4))}
        case "anyOf":
            return {"anyOf": [random_schema(dice, max(depth - 1, 0)) for _ in range(2)]}
        case "array":
            return {"type": "array", "items": random_schema(dice, depth - 1), "minItems": 1, "maxItems": dice.randrange(1, 3)}
        case "object":
            names = dice.sample(["a", "名", "long name", "n_1"], dice.randrange(1, 4))
            return {"type": "object", "properties": {name: random_schema(dice, depth - 1) for name in names},
                    "required": names, "additionalProperties": False}  # fmt: skip
    return {"type": kind}


def _boxed(schema: Any) -> dict[str, Any]:
    """A schema as the only property of an object, because answers are objects for some servers."""
    defs = {"$defs": schema.pop("$defs")} if isinstance(schema := _copy(schema), dict) and "$defs" in schema else {}
    return {"type": "object", "properties": {"it": schema}, "required": ["it"], "additionalProperties": False, **defs}


def _copy(schema: Any) -> Any:
    return dict(schema) if isinstance(schema, dict) else schema


def _format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
