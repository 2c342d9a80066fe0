"""How checks ask: what they take for an answer, and which refusals mean that a server does not offer something."""

import importlib
import re
from typing import Any

from danlu.apps.conform.check import Failed, NeedsMore, NotOffered, shorten
from danlu.apps.conform.target import Reply, Target

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_ABSENT = (404, 405, 501)
_UNSUPPORTED = re.compile(
    r"unsupported|not supported|not offered|not enabled|not implemented|does not support|cannot embed", re.I
)


def answer(target: Target, path: str, body: Any, feature: str = "") -> Any:
    """The JSON of a request that should succeed."""
    reply = target.post(path, body)
    if reply.status != 200:
        refuse(reply, path, feature)
    return reply.json()


def chat(target: Target, feature: str = "", **changes: Any) -> Any:
    """The answer to a small chat request with changes; `feature` names what is asked beyond plain text."""
    return answer(target, CHAT, target.chat(**changes), feature)


def message(target: Target, feature: str = "", **changes: Any) -> Any:
    """The first choice of such an answer."""
    return chat(target, feature, **changes)["choices"][0]


def steady(target: Target, feature: str = "", **changes: Any) -> Any:
    """The same, once the server has given it twice. Raises NeedsMore where two greedy answers differ: what is streamed then
    cannot be compared with what comes in one piece. (C14a says whether they may.)"""
    first, again = (message(target, feature, **changes) for _ in range(2))
    if first["message"] == again["message"]:
        return again
    if (third := message(target, feature, **changes))["message"] == again["message"]:
        return third  # the first read its prompt, the others found it in a cache
    raise NeedsMore("a server that answers the same twice at temperature 0")


def chunks(target: Target, feature: str = "", **changes: Any) -> list[dict[str, Any]]:
    """The chunks of such an answer, streamed."""
    return streamed(target, CHAT, target.chat(**changes), feature)


def streamed(target: Target, path: str, body: Any, feature: str = "") -> list[dict[str, Any]]:
    """The chunks of a streamed request that should succeed."""
    stream = target.stream(path, {**body, "stream": True})
    if stream.status != 200:
        refuse(stream.reply(), path, feature)
    return stream.chunks()


def refuse(reply: Reply, path: str, feature: str) -> None:
    """Raise what a refusal means: not offered, needs more, or failed."""
    error = reply.error()
    said = f"{error.get('code')}: {error.get('message')}"
    if reply.status in _ABSENT and error.get("code") != "model_not_found":
        raise NotOffered(f"{path} answers {reply.status}")
    if "template" in said.lower():
        raise NeedsMore(f"a chat template: {shorten(said)}")
    if feature and reply.status in (400, 422) and _UNSUPPORTED.search(said):
        raise NotOffered(f"{feature}: {shorten(said)}")
    raise Failed(f"200 for {feature or 'a plain request'}", reply)


def wrong(target: Target, path: str, body: Any, param: str | None, what: str = "") -> str | None:
    """Why a request that must be refused was not refused well; None where it was. `param` is the field to be named."""
    reply = target.post(path, body)
    what = what or (f"{param}={shorten(body.get(param), 40)}" if isinstance(body, dict) else shorten(body, 40))
    if reply.status in _ABSENT and reply.error().get("code") != "model_not_found":
        raise NotOffered(f"{path} answers {reply.status}")
    if reply.status not in (400, 413, 415, 422, 431):
        return f"{what} answers {reply}"
    if not isinstance(reply.error().get("message"), str):
        return f"{what} has the error body {shorten(reply.body.decode('utf-8', 'replace'))}"
    named = str(reply.error().get("param"))
    if param and re.split(r"[.\[]", named)[0] != param:
        return f"{what} is blamed on param {named!r}"
    return None


def openai_client(target: Target, kind: str = "OpenAI") -> Any:
    """The openai package's own client, which asks once. Raises NeedsMore where it is not installed."""
    try:
        openai = importlib.import_module("openai")
    except ModuleNotFoundError:
        raise NeedsMore("the openai package: pip install openai") from None
    return getattr(openai, kind)(
        base_url=f"{target.url}/v1", api_key=target.api_key or "none", max_retries=0, timeout=target.timeout_s
    )


def texts(parts: list[dict[str, Any]], choice: int = 0) -> str:
    """The content of a choice, put together from its deltas."""
    deltas = (one["delta"].get("content") for part in parts for one in part["choices"] if one["index"] == choice)
    return "".join(delta for delta in deltas if delta)
