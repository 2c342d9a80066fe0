"""A small server that speaks OpenAI's API as the checks want it, and wrongly where a test plants a fault.

Its tokens are characters and its answers a fixed text turned by the prompt, so nothing here depends on the engine. `Faults` are
functions on what comes in and goes out: the request, the answer, the chunks of a stream, its bytes.
"""

import copy
import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.apps.fake_api import MODEL, ROUTES, Refusal, model, problem, read, validate

KEY, MOST_BYTES = "secret", 8 << 20


@dataclass
class Faults:
    """What is done wrong; nothing by default."""

    request: Callable[[dict], Any] = lambda body: None
    answer: Callable[[dict], Any] = lambda body: None
    chunks: Callable[[list], Any] = lambda chunks: None
    raw: Callable[[bytes], bytes] = lambda raw: raw
    headers: Callable[[dict], Any] = lambda headers: None
    error: Callable[[dict], Any] = lambda error: None
    status: Callable[[int], int] = lambda status: status
    lenient: bool = False
    """Whether nothing is refused."""
    open: bool = False
    """Whether no key is needed."""
    stubborn: bool = False
    """Whether it works on when the client has left."""
    most_bytes: int = MOST_BYTES
    moderates: bool = True


@contextmanager
def serving(faults: Faults | None = None):
    """The address of a running fake."""
    server = Fake(("127.0.0.1", 0), Handler)
    server.faults, server.running, server.written, server.ids = faults or Faults(), 0, 0, itertools.count()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Fake(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients of these tests leave in the middle; that is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        """Quiet."""

    def do_GET(self):
        self.serve(None)

    def do_OPTIONS(self):
        self.reply(405, {"error": problem(405, "no preflight")})

    def do_POST(self):
        try:
            self.serve(self.read_body())
        except Refusal as refusal:
            self.refuse(refusal)

    def read_body(self) -> bytes:
        most = self.server.faults.most_bytes
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
                if len(body) > most:
                    self.close_connection = True
                    raise Refusal(413, "the body is too large")
            return body
        size = int(self.headers.get("Content-Length", 0))
        if size < 0 or size > most:
            self.close_connection = True
            raise Refusal(413 if size > 0 else 400, "the body is too large")
        return self.rfile.read(size)

    def serve(self, raw: bytes | None):
        path, faults = self.path, self.server.faults
        try:
            if not faults.open and path != "/health" and not self.has_key():
                raise Refusal(401, "wrong key", code="invalid_api_key")
            if raw is None:
                return self.get(path)
            handle = ROUTES.get(path)
            if handle is None:
                raise Refusal(404, "no such address", code="not_found")
            if self.headers.get_content_type() != "application/json":
                raise Refusal(415, "not JSON")
            body = read(raw)
            faults.request(body)
            if not faults.lenient:
                validate(path, body)
            self.server.running += 1
            try:
                handle(self, body)
            finally:
                self.server.running -= 1
        except Refusal as refusal:
            self.refuse(refusal)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            self.refuse(Refusal(500 if faults.lenient else 400, f"odd: {error!r}"))

    def has_key(self) -> bool:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and key == KEY

    def get(self, path):
        if path == "/v1/models":
            return self.reply(200, {"object": "list", "data": [model()]})
        if path.startswith("/v1/models/"):
            if path.removeprefix("/v1/models/").replace("%2F", "/") != MODEL:
                raise Refusal(404, "no such model", code="model_not_found")
            return self.reply(200, model())
        if path == "/metrics":
            text = f"num_requests_running {self.server.running}\ngeneration_tokens_total {self.server.written}\n"
            return self.send(200, {"Content-Type": "text/plain"}, text.encode())
        raise Refusal(405 if path in ROUTES else 404, "no such address", code="not_found")

    def refuse(self, refusal):
        error = problem(refusal.status, refusal.message, refusal.param, refusal.code)
        self.server.faults.error(error)
        self.reply(refusal.status, {"error": error})

    def reply(self, status, body):
        body = copy.deepcopy(body)
        if status == 200:
            self.server.faults.answer(body)
        self.send(
            self.server.faults.status(status), {"Content-Type": "application/json"}, json.dumps(body, ensure_ascii=False).encode()
        )

    def send(self, status, headers, raw):
        self.send_response(status)
        for name, value in self.shaped({**headers, "Content-Length": str(len(raw))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def shaped(self, headers):
        own = self.headers.get("X-Request-ID", "")
        headers = {**headers, "x-request-id": own if re.fullmatch(r"[\w-]{1,64}", own) else f"req-{next(self.server.ids)}"}
        self.server.faults.headers(headers)
        return headers

    def stream(self, chunks, named=False):
        faults = self.server.faults
        self.send_response(200)
        for name, value in self.shaped({"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache",
                                        "X-Accel-Buffering": "no", "Connection": "close"}).items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        chunks = [*chunks]
        faults.chunks(chunks)
        for chunk in chunks:
            data = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii="\\u" in repr(chunk))
            name = f"event: {chunk['type']}\n" if named else ""
            try:
                self.wfile.write(faults.raw(f"{name}data: {data}\n\n".encode()))
            except OSError:
                if not faults.stubborn:
                    raise
        self.close_connection = True

    def slow(self, tokens) -> None:
        """Takes its time over a long answer, and looks whether the client is still there."""
        if tokens < 256:
            return
        for _ in range(tokens):
            self.server.written += 1
            time.sleep(0.002)
            self.connection.settimeout(0)
            try:
                gone = self.connection.recv(1, 2) == b""
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            self.connection.settimeout(None)
            if gone and not self.server.faults.stubborn:
                raise Refusal(499, "gone")
