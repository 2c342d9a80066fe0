"""Errors in the shape that the clients of a route read: Anthropic's below /v1/messages, OpenAI's everywhere else."""

from typing import Any

from danlu.server.errors import ApiError

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
          408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error",
          504: "timeout_error"}  # fmt: skip


def anthropic_body(error: ApiError, request_id: str) -> dict[str, Any]:
    """The body of an error for Anthropic's clients; the field at fault, which they have no place for, goes before the message."""
    told = f"{error.param}: {error.message}" if error.param and error.param not in error.message else error.message
    kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": told}, "request_id": request_id}


def body_of(path: str, error: ApiError, request_id: str) -> dict[str, Any]:
    """The body of an error for whoever asked at this path."""
    mine = path == "/v1/messages" or path.startswith("/v1/messages/")
    return anthropic_body(error, request_id) if mine else error.body
