"""Errors as OpenAI's clients read them: always {"error": {"message", "type", "param", "code"}}, and nothing of this machine.

A client's mistake is never a 5xx, because clients repeat those by themselves; a 5xx that would come again says so
(`x-should-retry: false`), and an overload says when to ask again (`retry-after`).
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from danlu.core.errors import BadInput, BadSettings, DanluError, PromptTooLong, UnknownName, UnsupportedModel, nearest

_PLACE = re.compile(r"""(?<![\w.])(?:[A-Za-z]:\\|~?/|\.{1,2}/)(?!v1\b)[^\s:;,'"()<>]+""")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}|<[\w.]+ object[^>]*>")
_MOST = 1000
_CURE = "Give it a value that the API's reference names."


class ApiError(Exception):
    """A refusal or failure on its way to the client."""

    def __init__(self, status: int, message: str, *, type: str = "invalid_request_error", param: str | None = None,
                 code: str | None = None, headers: Mapping[str, str] | None = None):  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.type, self.param, self.code = status, message, type, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """400: a field has a value that cannot be."""
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, message: str) -> ApiError:
    """400: a field of OpenAI's API asks for something that this server does not do."""
    return ApiError(400, message, param=param, code="unsupported_parameter")


def too_long(prompt_tokens: int, context: int, asked: int | None = None, param: str = "messages") -> ApiError:
    """400: prompt and answer need more than the model's context. Nothing is ever cut."""
    wish = f" and {asked} were asked for the answer" if asked else ""
    return ApiError(
        400,
        f"This model's context is {context} tokens. The prompt has {prompt_tokens} tokens{wish}. Shorten the prompt"
        f"{f' or ask for at most {context - prompt_tokens}' if asked and context > prompt_tokens else ''}; nothing is cut "
        f"silently here.",
        param=param, code="context_length_exceeded",
    )  # fmt: skip


def no_model(name: str, known: Iterable[str]) -> ApiError:
    """404: no such model."""
    return ApiError(404, f"The model {_quoted(name)} does not exist here. {nearest(name, known)}", param="model",
                    code="model_not_found")  # fmt: skip


def overloaded(message: str, retry_s: float = 1.0) -> ApiError:
    """503: ask again a little later."""
    wait = {"retry-after": str(max(1, round(retry_s))), "retry-after-ms": str(round(retry_s * 1000))}
    return ApiError(503, message, type="server_error", code="overloaded", headers=wait)


def failed(message: str = "The server failed on this request; the operator finds the cause in its log.") -> ApiError:
    """500 that the same request would meet again."""
    return ApiError(500, message, type="server_error", code="internal_error", headers={"x-should-retry": "false"})


def from_exception(error: BaseException, names: Mapping[str, str] | None = None) -> ApiError:
    """What a client is told about an exception; names: texts to be replaced, such as folders by the models' names."""
    if isinstance(error, ApiError):
        return error
    if not isinstance(error, DanluError):
        return failed()
    kind, message = type(error).__name__, clean(str(error.args[0]) if error.args else "", names)
    if kind == "QueueFull":
        return overloaded(message)
    if kind == "EngineClosed":
        return overloaded("The server is stopping and takes no more requests.", 5)
    if isinstance(error, PromptTooLong):
        return ApiError(400, message, code="context_length_exceeded")
    if isinstance(error, BadInput | BadSettings | UnsupportedModel | UnknownName):
        return invalid(None, message)
    return failed()


def clean(text: str, names: Mapping[str, str] | None = None) -> str:
    """A message without folders, addresses and representations of objects.

    >>> clean("/data/models/a.bin: cannot <Foo object at 0x7fffdeadbeef>, see /v1/models")
    '(a file): cannot (an object), see /v1/models'
    """
    for place, name in sorted((names or {}).items(), key=lambda item: -len(item[0])):
        text = text.replace(place, name)
    text = _ADDRESS.sub("(an object)", _PLACE.sub("(a file)", text))
    return text if len(text) <= _MOST else text[:_MOST] + " ..."


def from_validation(problems: Sequence[Mapping[str, Any]], body: Any, known: Iterable[str] = ()) -> ApiError:
    """The most telling of pydantic's problems, as one error that names its field; no value is repeated in it."""
    described = [(_walk(problem, body), problem) for problem in problems]
    extra = [found for found in described if found[1]["type"] == "extra_forbidden"]
    path, problem = max(extra or described, key=lambda found: (not found[1]["type"].endswith("_type"), len(found[0])))
    param = _dotted(path) or None
    match problem["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(path[-1]), list(known), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            return invalid(param, f"Unknown parameter: {_quoted(param or '')}.{hint} Nothing is ignored silently here.",
                           "unknown_parameter")  # fmt: skip
        case "missing":
            return invalid(param, f"Missing required parameter: {_quoted(param or '')}.", "missing_required_parameter")
        case "json_invalid" | "model_attributes_type" | "dict_type" if not path:
            return invalid(None, "The body must be a JSON object.", "invalid_json")
        case kind:
            said = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
            code = "invalid_type" if kind.endswith("_type") or kind == "is_instance_of" else "invalid_value"
            return invalid(param, f"{_quoted(param)}: {clean(said)}." if param else f"{clean(said)}. {_CURE}", code)


def _walk(problem: Mapping[str, Any], body: Any) -> list[str | int]:
    """The part of pydantic's location that a client sees: names of alternatives of a union are left out."""
    path: list[str | int] = []
    here = body
    parts = [part for part in problem["loc"] if part != "body"]
    for number, part in enumerate(parts):
        inside = part in here if isinstance(here, dict) else isinstance(here, list) and isinstance(part, int) and part < len(here)
        if inside:
            here = here[part]
        elif not (number == len(parts) - 1 and problem["type"] in ("missing", "extra_forbidden") and isinstance(here, dict)):
            continue
        path.append(part)
    return path


def _dotted(path: Sequence[str | int]) -> str:
    """As OpenAI writes it: messages[0].content."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    return text[:200]


def _quoted(text: str) -> str:
    return f"'{text[:200]}'"
