"""Spans reach a collector over HTTP when one is named, hold no text, and go nowhere otherwise."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.server.running import made_service, serving

from danlu.core.errors import BadSettings
from danlu.server.models import Served
from danlu.server.traces import tracer_to

ASK = {"model": "base", "prompt": "unmistakable", "max_tokens": 2}


def test_a_span_tells_route_and_status_and_no_text(folders):
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with serving(made_service(Served("base", folders / "base")), tracer=provider) as running:
        assert running.post("/v1/completions", ASK).status_code == 200
        assert running.post("/v1/completions", {**ASK, "temperature": "unmistakable"}).status_code == 400
        running.get("/v1/models/org%2Fsecret")
    told = [(one.name, one.attributes["http.response.status_code"]) for one in spans.get_finished_spans()]
    assert told == [("POST /v1/completions", 200), ("POST /v1/completions", 400), ("GET /v1/models/{model}", 404)]
    for one in spans.get_finished_spans():
        assert "unmistakable" not in one.to_json() and not one.events


def test_spans_are_sent_to_the_collector_that_was_named(folders):
    came = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            came.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    provider = tracer_to(f"http://127.0.0.1:{collector.server_port}")
    with serving(made_service(Served("base", folders / "base")), tracer=provider) as running:
        running.post("/v1/completions", ASK)
    provider.shutdown()
    collector.shutdown()
    assert came[0][0] == "/v1/traces" and b"/v1/completions" in came[0][1] and b"unmistakable" not in came[0][1]


def test_nothing_is_told_to_anybody_who_was_not_named(folders, monkeypatch):
    from opentelemetry import trace

    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with serving(made_service(Served("base", folders / "base"))) as running:
        assert running.post("/v1/completions", ASK).status_code == 200
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("url", ["collector", "ftp://x", "http://", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(BadSettings, match="--traces"):
        tracer_to(url)
