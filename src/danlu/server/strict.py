"""Routes whose bodies are read strictly (limits.py) and whose answers say what they are: JSON in UTF-8, without NaN."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse

from danlu.server.errors import invalid
from danlu.server.limits import check_json_type, parse
from danlu.server.service import Caller, Service


class StrictRoute(APIRoute):
    """Parses the body before FastAPI looks at it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            if self.body_field is not None:
                check_json_type(request.headers.get("content-type"), request.headers.get("content-encoding"))
                body = await request.body()
                if not body:
                    raise invalid(None, "The body is empty. Send a JSON object.", "invalid_json")
                request._json = parse(body)
                if not isinstance(request._json, dict):
                    raise invalid(None, "The body must be a JSON object.", "invalid_json")
            return await handle(request)

        return strict


class Json(JSONResponse):
    """Characters as they are, and no number that JSON does not know."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def service_of(request: Request) -> Service:
    """The server's parts."""
    found: Service = request.app.state.service
    return found


def caller_of(request: Request) -> Caller:
    """Who asks."""
    state = request.scope.get("state", {})
    told = request.headers.get("x-danlu-applied", "").lower() in ("1", "true")
    return Caller(state.get("owner", ""), state.get("request_id", ""), told)


async def disconnected(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
