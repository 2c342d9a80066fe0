"""A span for each request to an OpenTelemetry collector, when one is named; route, status and time, no text and no exceptions."""

from typing import Any
from urllib.parse import urlsplit

from danlu.core.errors import BadSettings, MissingExtra
from danlu.core.machine import version


def spans_only(tracer: Any) -> dict[str, Any]:
    """What FastAPI's own telemetry may do: nothing without a tracer, and never send logs, which would hold what people wrote."""
    return {"tracing": tracer is not None, "tracer_provider": tracer, "metrics": False, "logs": False, "operation_spans": False,
            "auto_configure": False}  # fmt: skip


def tracer_to(url: str) -> Any:
    """A provider that sends spans to a collector (OTLP over HTTP). Raises BadSettings, MissingExtra."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadSettings(f"--traces {url}: give the address of a collector, such as http://127.0.0.1:4318.")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise MissingExtra("otel", "--traces") from None
    provider = TracerProvider(resource=Resource({"service.name": "danlu", "service.version": version("danlu") or "0"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces")))
    return provider
