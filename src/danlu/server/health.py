"""Whether the server can be used, and what Prometheus reads."""

from fastapi import APIRouter, Request, Response

from danlu.server.metrics import CONTENT_TYPE
from danlu.server.strict import Json, service_of

router = APIRouter()


@router.get("/health", tags=["service"])
async def health(request: Request) -> Response:
    """200 when everything works; 503 while models are opened, an engine has stalled or died, or the server stops. No key."""
    state = service_of(request).state()
    return Json({"status": state}, status_code=200 if state == "ok" else 503)


@router.get("/metrics", tags=["service"])
async def metrics(request: Request) -> Response:
    """Counts and times in Prometheus' text format."""
    return Response(service_of(request).metrics.text(), headers={"content-type": CONTENT_TYPE})
