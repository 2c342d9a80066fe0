"""Responses, the newer way of asking, without state: C80 to C84."""

import re
from typing import Any

from danlu.apps.conform.ask import answer, openai_client, refuse, wrong
from danlu.apps.conform.check import check, every, expect
from danlu.apps.conform.target import QUESTION, Target, read_json

PATH = "/v1/responses"
_TEXT = QUESTION[0]["content"]
_ORDER = (
    "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    "response.output_text.delta", "response.output_text.done", "response.content_part.done", "response.output_item.done",
)  # fmt: skip
_ENDS = ("response.completed", "response.incomplete")


def body(target: Target, **changes: Any) -> dict[str, Any]:
    """The body of a small request that keeps no state."""
    return {"model": target.model, "input": _TEXT, "max_output_tokens": 24, "temperature": 0, "store": False, **changes}


def respond(target: Target, **changes: Any) -> Any:
    """The answer to it."""
    return answer(target, PATH, body(target, **changes))


def output_text(response: Any) -> str:
    """The text of an answer."""
    parts = (part for item in response["output"] if item["type"] == "message" for part in item["content"])
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


def events(target: Target) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of each event of a streamed answer."""
    stream = target.stream(PATH, body(target, stream=True))
    if stream.status != 200:
        refuse(stream.reply(), PATH, "")
    target.streams.pop()  # its events have no finish_reason; checks of chat streams look elsewhere
    named = (re.fullmatch(r"event: ([\w.]+)\ndata: (.*)", block, re.DOTALL) for block in stream.blocks())
    every("an event without `event:` and `data:`" for one in named if one is None)
    return [
        (name, read_json(data)) for block in stream.blocks() for name, data in re.findall(r"event: ([\w.]+)\ndata: (.*)", block)
    ]


@check("C80")
def shape(target: Target) -> None:
    """An answer is a response object with status, output items, usage."""
    found = respond(target)
    expect(found["object"] == "response" and found["status"] in ("completed", "incomplete"), "a finished response", found)
    every(f"it lacks {key}" for key in ("id", "created_at", "model", "output", "usage", "error", "incomplete_details")
          if key not in found)  # fmt: skip
    item = found["output"][-1]
    expect((item["type"], item["role"], item["content"][0]["type"]) == ("message", "assistant", "output_text"), "a message", item)
    used = found["usage"]
    expect(used["total_tokens"] == used["input_tokens"] + used["output_tokens"], "total = input + output", used)


@check("C81")
def order(target: Target) -> None:
    """Streamed events come in their order, numbered, with the name on the event line, without [DONE]."""
    found = events(target)
    names = [name for name, _ in found]
    every(f"event {name} has type {data.get('type')}" for name, data in found if data.get("type") != name)
    numbers = [data.get("sequence_number") for _, data in found]
    expect(numbers == [*range(len(found))], "sequence_number 0, 1, 2, ...", numbers)
    seen = [name for place, name in enumerate(names) if name not in names[:place]]
    expect(seen[:-1] == [*_ORDER], ", ".join(_ORDER), seen)
    expect(names[-1] in _ENDS, " or ".join(_ENDS), names[-1])


@check("C82")
def same_text(target: Target) -> None:
    """Deltas put together are the text of the last event and of the answer in one piece."""
    found = events(target)
    deltas = "".join(data["delta"] for name, data in found if name == "response.output_text.delta")
    done = next(data["text"] for name, data in found if name == "response.output_text.done")
    wanted = output_text(respond(target))
    expect(deltas == done == output_text(found[-1][1]["response"]) == wanted, repr(wanted), repr(deltas))


@check("C83")
def client_reads(target: Target) -> None:
    """The openai client reads answers and streams."""
    client = openai_client(target)
    wanted = output_text(respond(target))
    expect(client.responses.create(**body(target)).output_text == wanted, repr(wanted), "another text")
    streamed = list(client.responses.create(**body(target), stream=True))
    deltas = "".join(event.delta for event in streamed if event.type == "response.output_text.delta")
    expect(deltas == streamed[-1].response.output_text == wanted, repr(wanted), repr(deltas))


@check("C84")
def refusals(target: Target) -> None:
    """Fields out of their range, and state that is not kept, are refused by name."""
    respond(target)
    bad = (
        ("temperature", 3),
        ("max_output_tokens", 0),
        ("top_p", 2),
        ("input", []),
        ("input", 7),
        ("previous_response_id", "resp_none"),
    )
    every(filter(None, (_refused(target, field, value) for field, value in bad)))


def _refused(target: Target, field: str, value: Any) -> str | None:
    if field == "previous_response_id":  # servers with state say 404 for one that is not there
        reply = target.post(PATH, body(target, **{field: value}))
        return None if reply.status in (400, 404) and reply.error() else f"{field}={value!r} answers {reply}"
    return wrong(target, PATH, body(target, **{field: value}), field)
