"""The application: routes, errors as OpenAI's clients read them, and around it all the layers that decide who may ask what.

From outside in: Frame (request id, last errors), Gate (host, origin, key), Body (bytes and time of the body), then the routes.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from danlu.core.errors import DanluError
from danlu.core.machine import version
from danlu.server import (
    classify,
    embeddings,
    feedback_api,
    health,
    messages,
    moderations,
    openapi,
    responses,
    routes,
    studio,
    studio_api,
)
from danlu.server.auth import Gate, Keys
from danlu.server.errors import ApiError, from_exception, from_validation
from danlu.server.frame import Frame
from danlu.server.limits import Body
from danlu.server.service import Service
from danlu.server.strict import Json
from danlu.server.traces import spans_only


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    keys: Keys
    hosts: Sequence[str] | None = ("127.0.0.1", "localhost", "::1")
    """Names under which the server may be asked; None: any."""
    origins: Sequence[str] = ()
    """Pages of other hosts that may ask from browsers."""


def create_app(service: Service, access: Access | None = None, *, page: bool = True, tracer: Any = None) -> Any:
    """The whole server as an ASGI application. page: serve the studio at /; tracer: what traces.py made.

    Without a tracer nothing is told to anybody, whatever the environment says of OpenTelemetry.
    """
    access = access or Access(Keys())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="Danlu", version=version("danlu") or "0", docs_url=None, redoc_url=None, openapi_url="/openapi.json",
                  redirect_slashes=False, lifespan=lifespan, telemetry=spans_only(tracer))  # fmt: skip
    app.state.service = service
    for part in routers(page):
        app.include_router(part)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DanluError, _danlu)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    inner = _Counted(Gate(Body(app, service.limits), access.keys, hosts=access.hosts, origins=access.origins,
                          public=studio.is_public if page else lambda path: False), service)  # fmt: skip
    return Frame(inner, service.metrics.answered)


def routers(page: bool) -> list[Any]:
    """Every route of the server, those for models of any kind first."""
    found = [health.router, routes.router, responses.router, messages.router, embeddings.router, classify.router,
             moderations.router, studio_api.router, feedback_api.router]  # fmt: skip
    return [*found, studio.router] if page else found


class _Counted:
    """Counts what is under way."""

    def __init__(self, app: Any, service: Service):
        self.app, self.service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        with self.service.metrics.in_flight.track_inprogress():
            await self.app(scope, receive, send)


def _answer(error: ApiError) -> Response:
    return Json(error.body, status_code=error.status, headers=error.headers)


async def _api_error(request: Request, error: Any) -> Response:
    return _answer(error)


async def _danlu(request: Request, error: Any) -> Response:
    service: Service = request.app.state.service
    return _answer(from_exception(error, {str(one.path): one.id for one in service.models.all}))


async def _validation(request: Request, error: Any) -> Response:
    problems = error.errors()
    if any(problem["loc"][:1] in (("query",), ("path",)) for problem in problems):
        problem = problems[0]
        return _answer(ApiError(400, f"'{problem['loc'][-1]}': {problem['msg']}.", param=str(problem["loc"][-1]),
                                code="invalid_value"))  # fmt: skip
    return _answer(from_validation(problems, error.body, _fields_of(request)))


def _fields_of(request: Request) -> Sequence[str]:
    field = getattr(request.scope.get("route"), "body_field", None)
    kind = getattr(getattr(field, "field_info", None), "annotation", None)
    return list(getattr(kind, "model_fields", ()))


async def _http(request: Request, error: Any) -> Response:
    status = error.status_code
    match status:
        case 404:
            told = ApiError(404, f"There is nothing at {request.method} {request.url.path[:200]}.", code="not_found")
        case 405:
            told = ApiError(405, f"{request.url.path[:200]} does not answer {request.method}.", code="method_not_allowed",
                            headers=error.headers)  # fmt: skip
        case _:
            told = ApiError(status, "The request could not be understood.", code="bad_request")
    return _answer(told)
