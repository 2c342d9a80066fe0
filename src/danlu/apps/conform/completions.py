"""Completions, the older way of asking: C60 to C67."""

import math
from typing import Any

from danlu.apps.conform.ask import COMPLETIONS as PATH
from danlu.apps.conform.ask import answer, streamed, wrong
from danlu.apps.conform.chat import stop_inside
from danlu.apps.conform.check import check, every, expect
from danlu.apps.conform.target import Target

_PROMPT = "Once upon a time 从前"


def body(target: Target, **changes: Any) -> dict[str, Any]:
    """The body of a small request."""
    return {"model": target.model, "prompt": _PROMPT, "max_tokens": 12, "temperature": 0, **changes}


def complete(target: Target, feature: str = "", **changes: Any) -> Any:
    """The answer to it."""
    return answer(target, PATH, body(target, **changes), feature)


def text(target: Target, feature: str = "", **changes: Any) -> str:
    """The text of its first choice."""
    return str(complete(target, feature, **changes)["choices"][0]["text"])


@check("C60")
def shape(target: Target) -> None:
    """An answer is a text_completion with text, index, logprobs, finish_reason and usage."""
    found = complete(target)
    expect(found["object"] == "text_completion" and found["model"] == target.model, "text_completion of the model", found)
    one = found["choices"][0]
    every(f"choices[0] lacks {key}" for key in ("text", "index", "logprobs", "finish_reason") if key not in one)
    used = found["usage"]
    expect(used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"], "total = prompt + completion", used)


@check("C61a")
def prompt_forms(target: Target) -> None:
    """A prompt may be a text, texts, token ids, lists of token ids."""
    one, two = [11, 12, 13], [14, 15]
    counts = {
        str(prompt): len(complete(target, prompt=prompt)["choices"]) for prompt in (_PROMPT, [_PROMPT, "tea"], one, [one, two])
    }
    expect([*counts.values()] == [1, 2, 1, 2], "1, 2, 1, 2 choices", counts)
    expect(text(target, prompt=one) == text(target, prompt=[one]), "the same text for ids and a list of ids", "different texts")
    used = complete(target, prompt=[one, two])["usage"]["prompt_tokens"]
    expect(used == 5, "5 prompt tokens in two lists of ids", used)


@check("C61b")
def indices(target: Target) -> None:
    """With several prompts and n answers each, index is prompt x n + answer."""
    found = complete(target, "n", prompt=["tea", "茶", "ten"], n=2, temperature=0)["choices"]
    alone = [text(target, prompt=prompt) for prompt in ("tea", "茶", "ten")]
    expect([one["index"] for one in found] == [*range(6)], "indices 0 to 5", [one["index"] for one in found])
    expect([one["text"] for one in found] == [alone[place // 2] for place in range(6)], "each prompt's own greedy answer",
           [one["text"] for one in found])  # fmt: skip


@check("C62a")
def scored(target: Target) -> None:
    """Echo with logprobs and max_tokens 0 scores the prompt: the first token has none."""
    one = complete(target, "echo with logprobs", echo=True, logprobs=2, max_tokens=0)["choices"][0]
    expect(one["text"] == _PROMPT, repr(_PROMPT), repr(one["text"]))
    found = one["logprobs"]
    lists = [found[key] for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")]
    expect(len({len(part) for part in lists}) == 1, "four lists of one length", [len(part) for part in lists])
    tokens, values, tops, offsets = lists
    expect(values[0] is None, "no log-probability for the first token", values)
    expect(all(math.isfinite(value) and value <= 1e-6 for value in values[1:]), "finite ones for the others", values)
    expect(tops[0] is None and all(len(top) >= 2 for top in tops[1:]), "null, then the 2 likeliest", tops[:2])
    expect(offsets[0] == 0 and offsets == sorted(offsets) and offsets[-1] < len(_PROMPT), "offsets into the text", offsets)
    expect(len(tokens) > 1, "several tokens", tokens)


@check("C62b")
def echo(target: Target) -> None:
    """Echo puts the prompt before the answer."""
    expect(
        text(target, "echo", echo=True) == _PROMPT + text(target), "the prompt and the answer", text(target, "echo", echo=True)
    )


@check("C62c")
def scored_together(target: Target) -> None:
    """Scores do not depend on what is asked beside them."""
    fields = {"echo": True, "logprobs": 1, "max_tokens": 0}
    alone = complete(target, "echo with logprobs", prompt="tea or 茶", **fields)["choices"][0]["logprobs"]["token_logprobs"]
    found = complete(target, "echo with logprobs", prompt=["a longer prompt", "tea or 茶"], **fields)["choices"][1]["logprobs"]
    every(f"{one} alone, {other} beside another prompt" for one, other in zip(alone[1:], found["token_logprobs"][1:], strict=True)
          if abs(one - other) > 1e-3)  # fmt: skip


@check("C63")
def default_length(target: Target) -> None:
    """The field max_tokens is 16 where it is left out."""
    asked = body(target)
    del asked["max_tokens"]
    used = answer(target, PATH, asked)
    count, reason = used["usage"]["completion_tokens"], used["choices"][0]["finish_reason"]
    expect(count == 16 or (count < 16 and reason == "stop"), "16 tokens, or fewer and stop", (count, reason))


@check("C64")
def ranges(target: Target) -> None:
    """Fields out of their range are refused by name."""
    complete(target)
    bad = (("logprobs", 1000, {}), ("logprobs", -1, {}), ("n", 0, {}), ("n", 129, {}), ("temperature", 2.5, {}),
           ("max_tokens", -1, {}), ("prompt", [], {}), ("prompt", [-1], {}),
           ("prompt", [999_999_999], {}), ("prompt", [1.5], {}),
           ("best_of", 1, {"n": 2}), ("best_of", 21, {}), ("stop", [""], {}))  # fmt: skip
    every(filter(None, (wrong(target, PATH, body(target, **{field: value}, **more), field) for field, value, more in bad)))


@check("C65")
def stream(target: Target) -> None:
    """Streamed chunks are text_completion with text, then the reason; put together they are the whole text."""
    parts = streamed(target, PATH, body(target, stream_options={"include_usage": True}), "stream_options")
    expect({part["object"] for part in parts} == {"text_completion"}, "text_completion", {part["object"] for part in parts})
    ones = [one for part in parts for one in part["choices"]]
    expect("".join(one["text"] for one in ones) == text(target), repr(text(target)), repr("".join(one["text"] for one in ones)))
    expect(
        [one["finish_reason"] is not None for one in ones] == [False] * (len(ones) - 1) + [True],
        "one reason, at the end",
        ones[-2:],
    )
    expect(parts[-1]["choices"] == [] and bool(parts[-1]["usage"]), "a last chunk with usage only", parts[-1])
    expect(target.streams[-1].data()[-1] == "[DONE]", "[DONE]", target.streams[-1].data()[-1])


@check("C66")
def stop_text(target: Target) -> None:
    """A stop text ends the answer and is not part of it."""
    whole = text(target, max_tokens=24)
    stop = stop_inside(whole)
    one = complete(target, "stop", max_tokens=24, stop=stop)["choices"][0]
    expect(
        (one["text"], one["finish_reason"]) == (whole[: whole.index(stop)], "stop"), f"the text before {stop!r}, and stop", one
    )


@check("C67")
def suffix(target: Target) -> None:
    """Suffix fills a gap, or is refused by name."""
    reply = target.post(PATH, body(target, suffix=" the end."))
    complete(target)
    if reply.status == 200:
        expect(isinstance(reply.json()["choices"][0]["text"], str), "a text", reply)
    else:
        expect((reply.status, reply.error().get("param")) == (400, "suffix"), "a text, or 400 that names suffix", reply)
