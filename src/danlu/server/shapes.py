"""What the other ways of asking share with chats: requests become one, and errors take the shape that a route's clients read."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from danlu.server.errors import ApiError, from_validation
from danlu.server.fields import Chat

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
          408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error",
          504: "timeout_error"}  # fmt: skip


def as_chat(fields: Mapping[str, Any]) -> Chat:
    """A chat from fields that were checked one by one. Raises ApiError where they are too much together."""
    try:
        return Chat.model_validate(dict(fields))
    except ValidationError as error:
        raise from_validation(error.errors(), fields) from None


def anthropic_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """The body of an error for Anthropic's clients. They show the message alone, so the field at fault goes before it; `param`
    and `code` stand there as well, as in every error of this server."""
    told = f"{error.param}: {error.message}" if error.param and error.param not in error.message else error.message
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    said = {"type": kind, "message": told, "param": error.param, "code": error.code}
    return {"type": "error", "error": said, "request_id": request_id}


def body_of(path: str, error: ApiError, request_id: str) -> dict[str, Any]:
    """The body of an error for whoever asked at this path."""
    mine = path == "/v1/messages" or path.startswith("/v1/messages/")
    return anthropic_body(error, request_id) if mine else error.body
