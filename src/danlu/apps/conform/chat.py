"""Chat completions, fields and answers: C10 to C27."""

import json
import math
import re
from typing import Any

from danlu.apps.conform import ask
from danlu.apps.conform.ask import CHAT, answer, message, wrong
from danlu.apps.conform.check import NeedsMore, NotOffered, check, every, expect
from danlu.apps.conform.target import QUESTION, Target

TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a word up.",
        "parameters": {
            "type": "object", "properties": {"word": {"type": "string", "maxLength": 8}, "exact": {"type": "boolean"}},
            "required": ["word", "exact"], "additionalProperties": False,
        },
        "strict": True,
    },
}  # fmt: skip
REASONS = ("stop", "length", "tool_calls", "content_filter", "function_call")
_BAD: dict[str, tuple[Any, ...]] = {
    "n": (0, -1, 129, 1.5, "2", [], True),
    "temperature": (-0.1, 2.1, "hot", [], 1e300),
    "top_p": (-0.1, 1.1, "all", {}),
    "frequency_penalty": (-2.1, 2.1, "much"),
    "presence_penalty": (-2.1, 2.1, []),
    "max_completion_tokens": (0, -1, 1.5, "many"),
    "seed": ("lucky", 1.5, 2**70),
    "logit_bias": ({"0": 101}, {"0": -101}, {"word": 1}, {"999999999": 1}, {"-1": 1}, [1], {"0": "much"}),
    "stop": (["a", "b", "c", "d", "e"], [""], "", [7], 7),
    "top_logprobs": (21, -1, "few"),
    "stream": ("yes", 7),
    "messages": ([], "hi", [{"role": "wizard", "content": "hi"}], [{"content": "hi"}], [{"role": "user"}], [7]),
    "response_format": ("json", {"type": "poem"}, {"type": "json_schema"}),
    "tool_choice": ("perhaps", 7),
    "tools": ("all", [7], [{"type": "function"}], [{"type": "function", "function": {"name": "a b"}}]),
}


def _enrol(id: str, field: str, values: tuple[Any, ...]) -> None:
    """A check that each of some values of a field is refused, with the field's name."""

    def look(target: Target) -> None:
        more = {"logprobs": True} if field == "top_logprobs" else {"tools": [TOOL]} if field == "tool_choice" else {}
        faults = [*filter(None, (wrong(target, CHAT, target.chat(**{**more, field: value}), field) for value in values))]
        if faults:
            ask.chat(target)  # a server may look at the model before the values: without conversation there is nothing to judge
        every(faults)

    look.__doc__ = f"The field {field} out of its range or of another type is refused by name."
    check(id)(look)


for _letter, (_field, _values) in zip("abcdefghijklmnopqrstuvw", _BAD.items(), strict=False):
    _enrol(f"C10{_letter}", _field, _values)


@check("C10x")
def top_logprobs_alone(target: Target) -> None:
    """The field top_logprobs without logprobs is refused by name."""
    every(filter(None, [wrong(target, CHAT, target.chat(top_logprobs=2), "top_logprobs")]))


@check("C10y")
def null_fields(target: Target) -> None:
    """Null means the default for every optional field."""
    fields = (
        "temperature",
        "top_p",
        "n",
        "stop",
        "seed",
        "logprobs",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "stream",
    )
    replies = {field: target.post(CHAT, target.chat(**{field: None})) for field in fields}
    ask.chat(target)
    every(f"{field}=null answers {reply}" for field, reply in replies.items() if reply.status != 200)


@check("C11a")
def two_names(target: Target) -> None:
    """The fields max_tokens and max_completion_tokens mean the same."""
    body = target.chat()
    del body["max_tokens"]
    lengths = {name: answer(target, CHAT, {**body, name: 3})["usage"]["completion_tokens"]
               for name in ("max_tokens", "max_completion_tokens")}  # fmt: skip
    expect(max(lengths.values()) <= 3 and len({*lengths.values()}) == 1, "the same length, at most 3", lengths)


@check("C11b")
def both_names(target: Target) -> None:
    """Of both names max_completion_tokens counts, or the pair is refused."""
    reply = target.post(CHAT, target.chat(max_tokens=1, max_completion_tokens=4))
    ask.chat(target)
    if reply.status != 400:
        long = message(target, max_tokens=4)["message"]["content"]
        expect(
            reply.status == 200 and reply.json()["choices"][0]["message"]["content"] == long,
            "the answer of length 4, or 400",
            reply,
        )


@check("C11c")
def developer(target: Target) -> None:
    """The role developer is taken as system."""
    said = [message(target, messages=[{"role": role, "content": "Answer in French."}, *QUESTION])["message"]["content"]
            for role in ("system", "developer")]  # fmt: skip
    expect(said[0] == said[1], "the same greedy answer for both roles", said)


@check("C11d")
def text_parts(target: Target) -> None:
    """Content may be a list of text parts."""
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTION[0]["content"]}]}]
    said = [message(target, messages=messages)["message"]["content"] for messages in (QUESTION, parts)]
    expect(said[0] == said[1], "the same greedy answer for text and one part", said)


def _history(**tool: Any) -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "tea", "exact": true}'}}
    return [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "茶", **tool}]


@check("C12a")
def tool_history(target: Target) -> None:
    """A history with tool_calls, content null and a tool's answer is taken."""
    message(target, "a history with tool calls", messages=_history(tool_call_id="call_1"), tools=[TOOL])


@check("C12b")
def tool_answer_to_nothing(target: Target) -> None:
    """A tool's answer without tool_call_id, or to no call, is refused."""
    tool_history(target)
    histories = (_history(), _history(tool_call_id="call_other"))
    every(filter(None, (wrong(target, CHAT, target.chat(messages=one, tools=[TOOL]), "messages") for one in histories)))


@check("C13")
def too_long(target: Target) -> None:
    """A prompt longer than the context is 400 context_length_exceeded with both counts, never cut."""
    ask.chat(target)
    for words in (20_000, 160_000, 900_000):
        reply = target.post(CHAT, target.chat(messages=[{"role": "user", "content": "tea " * words}], max_tokens=1))
        if reply.status == 200:
            used = reply.json()["usage"]["prompt_tokens"]
            expect(used >= words // 8, f"{words} words read in full or refused", f"{used} prompt tokens")
            continue
        if reply.status == 413:
            raise NeedsMore("a smaller context: its prompt is over the limit of bodies")
        expect(
            (reply.status, reply.error().get("code")) == (400, "context_length_exceeded"), "400 context_length_exceeded", reply
        )
        counts = re.findall(r"\d[\d,]*", reply.error()["message"])
        expect(len(counts) >= 2, "both counts in the message", reply)
        return
    raise NeedsMore("a context of less than 900,000 tokens")


@check("C14a")
def greedy(target: Target) -> None:
    """Temperature 0 answers the same twice."""
    said = [message(target)["message"]["content"] for _ in range(2)]
    expect(said[0] == said[1], "the same answer", said)


@check("C14b")
def seeded(target: Target) -> None:
    """A seed answers the same twice, another seed may not."""
    said = [message(target, "seed", temperature=1, seed=7)["message"]["content"] for _ in range(3)]
    expect(len({*said}) == 1, "the same answer for one seed", said)


@check("C14c")
def fingerprint(target: Target) -> None:
    """The field system_fingerprint says for what a seed repeats, and stays."""
    prints = [ask.chat(target, seed=seed).get("system_fingerprint") for seed in (1, 2)]
    expect(bool(prints[0]) and prints[0] == prints[1], "one text for both answers", prints)


@check("C20")
def shape(target: Target) -> None:
    """An answer has all required fields, refusal and logprobs null among them."""
    found = ask.chat(target)
    wanted = {"object": "chat.completion", "model": target.model}
    every(f"{key} is {found.get(key)!r}" for key, value in wanted.items() if found.get(key) != value)
    expect(str(found["id"]).startswith("chatcmpl-"), "an id that begins with chatcmpl-", found["id"])
    expect(type(found["created"]) is int and found["created"] > 1_600_000_000, "created in seconds", found["created"])
    one = found["choices"][0]
    every(f"choices[0] lacks {key}" for key in ("index", "message", "finish_reason", "logprobs") if key not in one)
    every(f"message lacks {key}" for key in ("role", "content", "refusal") if key not in one["message"])
    expect(one["message"]["role"] == "assistant" and one["index"] == 0 and one["logprobs"] is None, "assistant, 0, null", one)


@check("C21a")
def length(target: Target) -> None:
    """An answer cut at max_tokens says length."""
    found = ask.chat(target, max_tokens=2)
    one, used = found["choices"][0], found["usage"]["completion_tokens"]
    expect(one["finish_reason"] == ("length" if used == 2 else "stop") and used <= 2, "length after 2 tokens", (one, used))


@check("C21b")
def stop_text(target: Target) -> None:
    """A stop text ends the answer, is not part of it, and says stop."""
    whole = ask.steady(target, max_tokens=24)["message"]["content"]
    stop = stop_inside(whole)
    one = message(target, "stop", max_tokens=24, stop=stop)
    wanted = (whole[: whole.index(stop)], "stop")
    expect((one["message"]["content"], one["finish_reason"]) == wanted, f"{wanted} with stop {stop!r}", one)


@check("C21c")
def known_reasons(target: Target) -> None:
    """Every finish_reason is one of the five known."""
    found = [message(target, max_tokens=most)["finish_reason"] for most in (1, 16)]
    expect({*found} <= {*REASONS}, f"one of {', '.join(REASONS)}", found)


@check("C22a")
def usage(target: Target) -> None:
    """Usage adds up and has details of cached and reasoning tokens."""
    used = ask.chat(target)["usage"]
    expect(used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"], "total = prompt + completion", used)
    expect(used["prompt_tokens"] > 0 and 0 < used["completion_tokens"] <= 16, "counts above 0", used)
    expect("cached_tokens" in (used.get("prompt_tokens_details") or {}), "prompt_tokens_details.cached_tokens", used)
    expect(
        "reasoning_tokens" in (used.get("completion_tokens_details") or {}), "completion_tokens_details.reasoning_tokens", used
    )


@check("C22b")
def several(target: Target) -> None:
    """Several answers (n) come in order of index and their tokens are summed."""
    found = ask.chat(target, "n", n=3, temperature=1, max_tokens=4)
    expect([one["index"] for one in found["choices"]] == [0, 1, 2], "indices 0, 1, 2", found["choices"])
    used = found["usage"]["completion_tokens"]
    full = sum(one["finish_reason"] == "length" for one in found["choices"])
    expect(4 * full <= used <= 12, f"between {4 * full} and 12 tokens", used)


@check("C23a")
def logprobs(target: Target) -> None:
    """Logprobs have token, logprob, bytes and top_logprobs, likeliest first; refusal null."""
    found = message(target, "logprobs", logprobs=True, top_logprobs=3)["logprobs"]
    expect("refusal" in found and found["refusal"] is None, "logprobs.refusal null", found.get("refusal"))
    for entry in found["content"]:
        tops = entry["top_logprobs"]
        kinds = {"token": str, "logprob": float | int, "bytes": list | None}
        every(
            f"{part} has no good {key}" for part in (entry, *tops) for key in kinds if not isinstance(part.get(key), kinds[key])
        )
        values = [top["logprob"] for top in tops]
        expect(len(tops) == 3 and values == sorted(values, reverse=True), "3 top_logprobs, likeliest first", tops)
        expect(abs(entry["logprob"] - values[0]) < 1e-3, "the likeliest token at temperature 0", (entry["logprob"], values))
    expect(bool(found["content"]), "at least one token", found)


@check("C23b")
def logprob_bytes(target: Target) -> None:
    """The bytes of all tokens put together are the content."""
    one = message(target, "logprobs", logprobs=True, max_tokens=24)
    joined = bytes(byte for entry in one["logprobs"]["content"] for byte in entry["bytes"] or ())
    content = one["message"]["content"]
    whole = joined.decode("utf-8", "replace")
    expect(whole == content or (one["finish_reason"] == "stop" and whole.startswith(content)), repr(content), repr(whole))


@check("C23c")
def finite_logprobs(target: Target) -> None:
    """Log-probabilities are at most 0 and finite, also where a token is all but impossible."""
    one = message(
        target, "logprobs and logit_bias", logprobs=True, top_logprobs=20, logit_bias={"1": -100, "2": 100}, max_tokens=2
    )
    values = [part["logprob"] for entry in one["logprobs"]["content"] for part in (entry, *entry["top_logprobs"])]
    expect(all(math.isfinite(value) and value <= 1e-6 for value in values), "finite values, at most 0", values)


@check("C24a")
def tool_call(target: Target) -> None:
    """A named tool is called: id, type, name, arguments as text that is JSON."""
    choice = {"type": "function", "function": {"name": "look_up"}}
    one = message(target, "tools", tools=[TOOL], tool_choice=choice, max_tokens=200)
    call = one["message"]["tool_calls"][0]
    expect(bool(call["id"]) and call["type"] == "function" and call["function"]["name"] == "look_up", "a call of look_up", call)
    expect(isinstance(call["function"]["arguments"], str), "arguments as text", call)
    if one["finish_reason"] != "length":
        given = json.loads(call["function"]["arguments"])
        expect({*given} == {"word", "exact"} and type(given["exact"]) is bool, "arguments that fit the strict tool", given)
        expect(one["finish_reason"] in ("tool_calls", "stop"), "tool_calls", one["finish_reason"])


@check("C24b")
def tool_choice(target: Target) -> None:
    """With tool_choice required a tool is called and the reason is tool_calls; with none, none is."""
    one = message(target, "tools", tools=[TOOL], tool_choice="required", max_tokens=200)
    called, content = bool(one["message"].get("tool_calls")), one["message"].get("content")
    expect(called or (one["finish_reason"] == "length" and not content), "tool_calls, not text", one)
    expect(one["finish_reason"] in ("tool_calls", "length"), "tool_calls", one["finish_reason"])
    none = message(target, "tools", tools=[TOOL], tool_choice="none")
    expect(not none["message"].get("tool_calls"), "no tool_calls with tool_choice none", none)


@check("C26")
def moderation(target: Target) -> None:
    """Moderation, when asked for, fills the field moderation of the answer."""
    found = ask.chat(target, "moderation", moderation={"model": "omni-moderation-latest"})
    expect(isinstance(found.get("moderation"), dict), "a field moderation, or a refusal", [*found])
    sides = [found["moderation"][side] for side in ("input", "output")]
    every(f"{side} is neither results nor an error" for side in sides if side.get("type") not in ("moderation_results", "error"))


@check("C27")
def annotations(target: Target) -> None:
    """Annotations, where an answer has some, are url_citation objects."""
    notes = message(target)["message"].get("annotations")
    if not notes:
        raise NotOffered("the answer has no annotations")
    keys = {"start_index", "end_index", "url", "title"}
    every(
        f"{note} is no url_citation"
        for note in notes
        if note.get("type") != "url_citation" or not keys <= {*note["url_citation"]}
    )


def stop_inside(text: str) -> str:
    """A few characters from the middle of a text that stand there first. Raises NeedsMore for a text too short."""
    parts = [text[at : at + 3] for at in range(2, len(text) - 3)]
    good = [part for at, part in enumerate(parts, 2) if text.find(part) == at and "\ufffd" not in part]
    if not good:
        raise NeedsMore(f"an answer with something to stop at, not {text!r}")
    return good[len(good) // 2]
