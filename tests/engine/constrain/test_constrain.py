"""Answers held to forms: whatever a model would rather say, its answer satisfies the form or was cut short by its length."""

import contextlib
import enum
import json
import os
import re
import threading
import time
from datetime import date, datetime
from typing import Literal
from uuid import UUID

import numpy as np
import pytest
from tests.tiny import tiny_tokenizer

import danlu.engine.constrain.compile as at
from danlu.engine.choose import Ask, Chosen, choose
from danlu.engine.constrain import FORMS, BadForm, Limits
from danlu.engine.constrain.compile import Held, compile
from danlu.engine.draw import NoToken
from danlu.engine.request import Sampling

pytest.importorskip("llguidance", reason="forms need the extra `serve`")

TOKENIZER = tiny_tokenizer("<|tool|>")
EOS = TOKENIZER.eos_id
ENDS = {EOS}


def hold(kind, spec, tokenizer=TOKENIZER, **limits):
    return compile(kind, spec, tokenizer, ENDS, Limits(**limits))


def say(held: Held, seed=0, room=600, wish=lambda step, size: None, tokenizer=TOKENIZER):
    """What a model of random logits says under a form: its text, and whether it came to an end."""
    random, ids = np.random.default_rng(seed), []
    for step in range(room):
        logits = random.normal(0, 2, tokenizer.vocab_size).astype(np.float32)
        wish(step, logits)
        ask = Ask(Sampling(temperature=1), seed, step, np.array([*ids], np.int64), 0, frozenset(ENDS), held.mask())
        (chosen,) = choose([logits], [ask])
        if isinstance(chosen, NoToken):
            raise chosen
        assert isinstance(chosen, Chosen)
        if chosen.token in ENDS:
            return tokenizer.decode(ids), True
        ids.append(chosen.token)
        if held.accept(chosen.token):
            return tokenizer.decode(ids), True
    return tokenizer.decode(ids), False


def brisk(step, logits):
    """A model that would rather end strings, numbers and arrays than go on with them."""
    for token in TOKENIZER.encode('"]},'):
        logits[token] += 4 + step / 20
    for token in TOKENIZER.encode(" \n\t\r"):
        logits[token] -= 4
    logits[EOS] += 4


# ---- random schemas

SCHEMAS = int(os.environ.get("DANLU_SCHEMAS", "200"))
WORDS = ["a", "b2", "naïve", "名", "x y", 'q"', "z/w"]


class Schemas:
    """Random schemas of the supported subset that some JSON satisfies."""

    def __init__(self, seed):
        self.random, self.defs = np.random.default_rng(seed), {}

    def of(self, *options):
        return options[self.random.integers(len(options))]

    def schema(self, depth=3):
        leaf = [
            self.string,
            self.number,
            self.integer,
            self.enum,
            self.const,
            lambda: {"type": "boolean"},
            lambda: {"type": "null"},
        ]
        deep = [self.object, self.object, self.array, self.array, self.union, self.reference, self.tuple]
        make = self.of(*leaf, *(deep if depth > 0 else []))
        found = make(depth) if make in deep else make()
        if self.of(True, False, False, False) and found.get("type", "null") != "null":
            found = {**found, "type": [found["type"], "null"]}
        return {**found, **self.of({}, {}, {"description": "said"}, {"title": "T", "default": 1})}

    def boolean(self):
        return {"type": "boolean"}

    def string(self):
        kind = self.of("plain", "length", "pattern", "format")
        if kind == "length":
            least = int(self.random.integers(0, 4))
            return {"type": "string", "minLength": least, "maxLength": least + int(self.random.integers(0, 9))}
        if kind == "pattern":
            return {"type": "string", "pattern": self.of("^[a-c]{2,4}$", "^(foo|bar)+$", "^[0-9]{3}-[0-9]{4}$", "^\\S{1,5}$")}
        if kind == "format":
            return {
                "type": "string",
                "format": self.of("date", "date-time", "uuid", "email", "ipv4", "time", "hostname", "duration", "ipv6"),
            }
        return {"type": "string"}

    def bounds(self, unit):
        low = int(self.random.integers(-60, 60))
        high = low + int(self.random.integers(2, 90))
        return self.of({}, {"minimum": low * unit}, {"maximum": high * unit}, {"minimum": low * unit, "maximum": high * unit},
                       {"exclusiveMinimum": low * unit, "exclusiveMaximum": high * unit})  # fmt: skip

    def number(self):
        return {"type": "number", **self.bounds(self.of(1, 0.5))}

    def integer(self):
        return {"type": "integer", **self.bounds(1), **self.of({}, {}, {"multipleOf": self.of(1, 2)})}

    def value(self):
        return self.of(1, -2.5, "", "yes", "名\n", True, None, [1, "a"], {"k": [None]}, "</script>")

    def enum(self):
        return {"enum": [self.value() for _ in range(int(self.random.integers(1, 5)))]}

    def const(self):
        return {"const": self.value()}

    def object(self, depth):
        names = [name for name in WORDS if self.random.random() < 0.5]
        found = {"type": "object", "properties": {name: self.schema(depth - 1) for name in names},
                 "required": [name for name in names if self.random.random() < 0.7]}  # fmt: skip
        return {**found, **self.of({}, {"additionalProperties": False}, {"additionalProperties": self.schema(0)})}

    def array(self, depth):
        least = int(self.random.integers(0, 3))
        found = {"type": "array", "items": self.schema(depth - 1), "maxItems": least + int(self.random.integers(0, 3))}
        return {**found, "minItems": least}

    def tuple(self, depth):
        parts = [self.schema(depth - 1) for _ in range(2)]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": 2}

    def union(self, depth):
        return {self.of("anyOf", "anyOf", "allOf"): [self.schema(depth - 1)]} if self.of(True, False) else {
            "anyOf": [self.schema(depth - 1), self.schema(depth - 1)]}  # fmt: skip

    def reference(self, depth):
        name = f"d{len(self.defs)}"
        self.defs[name] = {}
        if self.of(True, False):
            tail = {"anyOf": [{"type": "null"}, {"$ref": f"#/$defs/{name}"}]}
            self.defs[name] = {"type": "object", "properties": {"v": self.schema(0), "next": tail}, "required": ["v", "next"],
                               "additionalProperties": False}  # fmt: skip
        else:
            self.defs[name] = self.schema(depth - 1)
        return {"$ref": f"#/$defs/{name}"}

    def whole(self):
        found = self.schema()
        return {**found, "$defs": self.defs} if self.defs else found


def test_whatever_a_random_model_says_under_two_hundred_random_schemas_is_valid_or_cut_short():
    from jsonschema_rs import Draft202012Validator

    ended = 0
    for seed in range(SCHEMAS):
        schema = Schemas(seed).whole()
        text, complete = say(hold("json_schema", schema), seed, wish=brisk if seed % 4 else lambda step, logits: None)
        if complete:
            ended += 1
            value = json.loads(text, parse_float=lambda digits: float(np.clip(float(digits), -1e308, 1e308)))  # 1e999 is JSON
            errors = [str(error) for error in Draft202012Validator(schema, validate_formats=True).iter_errors(value)]
            assert not errors, (seed, schema, text)
    assert ended > 0.7 * SCHEMAS


# ---- what people really send


class Mood(enum.Enum):
    calm = "calm"
    wild = "狂"


def pydantic_models():
    from pydantic import BaseModel, Field

    class Inner(BaseModel):
        mood: Mood
        score: float | None = None

    class Node(BaseModel):
        value: int
        below: list["Node"] = Field(max_length=2)

    class Cat(BaseModel):
        kind: Literal["cat"]
        lives: int = Field(ge=1, le=9)

    class Dog(BaseModel):
        kind: Literal["dog"]
        name: str = Field(min_length=1, max_length=12, pattern="^[a-z]+$")

    class Everything(BaseModel):
        inner: Inner
        many: list[Inner] = Field(max_length=2)
        pet: Cat | Dog
        day: date
        moment: datetime
        key: UUID
        pair: tuple[int, bool]
        maybe: str | None
        table: dict[str, int] | None = None

    return [Inner, Node, Cat, Everything]


@pytest.mark.parametrize("seed", range(6))
def test_schemas_of_pydantic_models_are_answered_by_what_the_models_read(seed):
    for model in pydantic_models():
        text, complete = say(hold("json_schema", model.model_json_schema()), seed, wish=brisk, room=1500)
        assert complete
        model.model_validate_json(text)


@pytest.mark.parametrize("seed", range(4))
def test_strict_schemas_as_the_openai_client_sends_them(seed):
    strict = pytest.importorskip("openai.lib._pydantic").to_strict_json_schema
    for model in pydantic_models()[:3]:
        text, complete = say(hold("json_schema", strict(model)), seed, wish=brisk, room=1500)
        assert complete
        model.model_validate_json(text)


# ---- other forms


@pytest.mark.parametrize("seed", range(5))
def test_json_object_is_an_object(seed):
    text, complete = say(hold("json_object", None), seed, wish=brisk)
    assert complete and isinstance(json.loads(text), dict)


@pytest.mark.parametrize("pattern", ["(foo|bar)baz", "[a-c]{3}", "[0-9]+(\\.[0-9]+)?", "炉火?纯青", "(a|b)*c"])
def test_an_expression_matches_the_whole_answer(pattern):
    for seed in range(5):
        text, complete = say(hold("regex", pattern), seed, wish=brisk)
        assert complete and re.fullmatch(pattern, text)


@pytest.mark.parametrize("pattern", ["(foo|bar)*baz?", "[a-c]{2,4}-[0-9]+", "a(b|cd)*(e|f{3})"])
def test_what_is_allowed_is_what_can_still_become_a_match(pattern):
    """Against the partial matching of another engine, token by token."""
    import regex

    expression, random = regex.compile(pattern.encode()), np.random.default_rng(3)
    for _ in range(6):
        held, said = hold("regex", pattern), b""
        for _ in range(9):
            mask = held.mask()
            for token in range(3, TOKENIZER.vocab_size - 1):
                possible = expression.fullmatch(said + TOKENIZER.token_bytes(token), partial=True) is not None
                assert mask[token] == possible, (said, TOKENIZER.token_bytes(token))
            assert mask[EOS] == (expression.fullmatch(said) is not None)
            token = int(random.choice(np.flatnonzero(mask)))
            if token == EOS or held.accept(token):
                break
            said += TOKENIZER.token_bytes(token)


def test_one_of_the_choices_and_each_of_them_can_be_said():
    choices = ["yes", "yes, sir", "a.b*(c)", "中文", "\\n\n", '"quoted"']
    said = [say(hold("choices", choices), seed)[0] for seed in range(60)]
    assert set(said) == set(choices)


def test_a_grammar_is_derived():
    for seed in range(5):
        text, complete = say(hold("grammar", 'start: "(" start ")" | "x"'), seed, wish=brisk)
        assert complete and re.fullmatch(r"\(*x\)*", text) and text.count("(") == text.count(")")


def test_ends_are_allowed_exactly_where_the_form_is_complete():
    held = hold("regex", "ab?")
    assert not held.mask()[EOS]
    assert not held.accept(TOKENIZER.encode("a")[0])
    assert held.mask()[EOS] and held.clone().accept(EOS)
    assert held.accept(TOKENIZER.encode("b")[0])


def test_special_tokens_are_no_text():
    special = list(TOKENIZER.special_tokens.values())
    held = hold("regex", "(.|\n)*")
    assert not held.mask()[[token for token in special if token != EOS]].any()
    assert held.mask().sum() > 100
    for written in ("<|tool|>", f"<[{TOKENIZER.special_tokens['<|tool|>']}]>"):
        with pytest.raises(BadForm):
            hold("grammar", f'start: {written} "a"')


def test_a_copy_goes_its_own_way():
    held = hold("choices", ["left", "right"])
    other = held.clone()
    held.accept(TOKENIZER.encode("l")[0])
    assert np.flatnonzero(held.mask()).tolist() == TOKENIZER.encode("e")
    assert sorted(np.flatnonzero(other.mask()).tolist()) == sorted(TOKENIZER.encode("lr"))


def test_a_token_that_was_not_allowed_is_noticed():
    held = hold("choices", ["left"])
    assert not held.accept(TOKENIZER.encode("x")[0])
    assert not held.mask().any() and held.clone().trouble and not held.clone().mask().any()


def test_tokens_of_several_letters():
    from danlu.tokenizer.trainers import TRAINERS

    corpus = ['{"name": "value", "other": [1, 23, 456]}'] * 50
    bpe = TRAINERS.build(TRAINERS["bpe"].Config()).train(iter(corpus), ("<|endoftext|>",), vocab_size=275)
    held = compile("json_schema", {"type": "object", "properties": {"name": {"enum": ["value"]}}, "required": ["name"],
                                   "additionalProperties": False}, bpe, {bpe.eos_id})  # fmt: skip
    assert max(len(bpe.token_bytes(int(token))) for token in np.flatnonzero(held.mask())) > 1
    for seed in range(5):
        text, complete = say(held.clone(), seed, tokenizer=bpe)
        assert complete and json.loads(text) == {"name": "value"}


# ---- what is refused


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "object", "properties": {"a": {"patternProperties": {}}}}, "#/properties/a: the keyword 'patternProperties'"),
        ({"not": {}}, "the keyword 'not'"), ({"x-guidance": {}}, "'x-guidance'"), ({"$id": "http://x"}, r"'\$id'"),
        ({"type": "object", "minProperties": 1}, "minProperties"), ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "strin"}, "no type 'strin'"), ({"type": "string", "format": "phone"}, "format 'phone'"),
        ({"$ref": "#/$defs/none"}, "leads to no schema"), ({"$ref": "http://example.com/a"}, "nothing else is fetched"),
        ({"type": "array", "maxItems": 10**9}, "#/maxItems"), ({"type": "string", "minLength": -1}, "#/minLength"),
        ({"type": "string", "pattern": "(?=a)"}, "not supported"), ({"type": "string", "pattern": "(" * 3000}, "3000 characters"),
        ({"enum": list(range(5000))}, "more than 1000 values"), ({"enum": []}, "#/enum"), ({"$ref": "#"}, "no text"),
        ({"type": "string", "const": float("nan")}, "not JSON"), ([1], "#: a schema is"), ({"items": 3}, "#/items: a schema is"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "unsatisfiable|no text"),
        ({"anyOf": "x"}, "#/anyOf"),
        ({"type": "string", "description": "x" * 70_000}, "bytes"),
        ({"properties": {str(n): {} for n in range(1500)}}, "properties"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_name_and_place(schema, said):
    with pytest.raises(BadForm, match=said):
        hold("json_schema", schema)


def nested(depth):
    schema = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


HOSTILE = [
    ("json_schema", nested(900)),
    ("json_schema", {"allOf": [{"anyOf": [{"properties": {f"k{i}{j}": {"type": "string"}}} for j in range(5)]}
                              for i in range(40)]}),
    ("regex", "(" * 1000 + "a" + ")" * 1000), ("regex", "(((a{1000}){1000}){1000}){1000}"), ("regex", "(a{1000}){1000}"),
    ("regex", "((a|b)*c){1000}(x?y?){500}"), ("regex", "(a?){1000}a{1000}"),
    ("regex", "(.*a){200}"), ("regex", "(a|b)*a(a|b){500}"), ("grammar", "start: " + "(" * 9000 + '"a"' + ")" * 9000),
    ("grammar", "start: start start"), ("grammar", "start: a\na: start"), ("grammar", 'start: ("a" | "a")~1000..2000'),
    ("regex", "a("), ("grammar", "start: nothing"), ("choices", []), ("choices", [""]), ("choices", ["\ud800"]), ("regex", ""),
    ("regex", "[" * 2000), ("json_object", {"type": "object"}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_forms_end_soon_in_an_error_of_ours_or_are_kept(number):
    kind, spec = HOSTILE[number]
    start = time.perf_counter()
    with contextlib.suppress(BadForm, NoToken):
        say(hold(kind, spec), room=40)
    assert time.perf_counter() - start < 5


def test_preparing_has_a_deadline(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(at, "_prepared", lambda *parts: release.wait(20))
    start = time.perf_counter()
    with pytest.raises(BadForm, match=r"0\.2 s"):
        hold("regex", "slow[0-9]", compile_s=0.2)
    assert time.perf_counter() - start < 2
    release.set()


def test_a_form_is_prepared_once(monkeypatch):
    hold("regex", "once[0-9]")
    monkeypatch.setattr(at, "_prepared", None)
    assert hold("regex", "once[0-9]").mask().any()


def test_tokens_that_are_not_the_text_are_refused():
    from danlu.tokenizer.tokenizer import Tokenizer

    parts = {**TOKENIZER.parts, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}}
    with pytest.raises(BadForm, match="WordPiece"):
        hold("regex", "a", tokenizer=Tokenizer(json.dumps(parts), TOKENIZER.config))


def test_the_shelf_names_its_forms():
    assert set(FORMS.names()) == {"json_schema", "json_object", "regex", "choices", "grammar", "framed"}
