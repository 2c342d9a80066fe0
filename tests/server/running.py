"""A server of any service on a loopback port, in this process: uvicorn in a thread, and what a test needs to ask it."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager

import httpx2
import uvicorn
from openai import OpenAI

from danlu.engine.opening import Serving
from danlu.server.app import Access, create_app
from danlu.server.auth import Keys
from danlu.server.limits import HEADER_BYTES, protocol
from danlu.server.models import Models, Served
from danlu.server.service import Service

KEY = "key-for-tests-only"


class Running:
    """A server that listens."""

    def __init__(self, service: Service, port: int, key: str | None):
        self.service, self.port, self.key = service, port, key
        self.url = f"http://127.0.0.1:{port}"
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.http = httpx2.Client(base_url=self.url, timeout=30)

    def client(self, **settings) -> OpenAI:
        settings = {"api_key": self.key or "none", "max_retries": 0, "timeout": 30, **settings}
        return OpenAI(base_url=f"{self.url}/v1", **settings)

    def get(self, path: str, **more):
        return self.http.get(path, **{"headers": self.headers, **more})

    def post(self, path: str, body=None, **more):
        return self.http.post(path, **{"headers": self.headers, "json": body, **more})

    def metric(self, name: str) -> float:
        """The sum over labels of a metric."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"danlu:{name}{{", f"danlu:{name} ")))

    def settle(self, seconds: float = 20) -> None:
        """Wait until nothing runs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            states = [one.engine.status() for one in self.service.models.all if one.engine]
            if not any(state.running + state.waiting for state in states):
                return
            time.sleep(0.01)
        raise AssertionError("the engine is still busy")


@contextmanager
def serving(service: Service, access: Access | None = None, key: str | None = None, **more):
    """Run a service until the block ends."""
    config = uvicorn.Config(create_app(service, access, **more), log_level="critical", ws="none",
                            http=protocol(service.limits), lifespan="on", timeout_graceful_shutdown=2,
                            h11_max_incomplete_event_size=HEADER_BYTES)  # fmt: skip
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield Running(service, listener.getsockname()[1], key)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def made_service(*served: Served, serving: Serving | None = None, **settings) -> Service:
    """A service whose models are open."""
    service = Service(Models(served), **settings)
    service.models.open(serving or Serving(rows=8, cache_tokens=8192))
    return service


def keyed() -> Access:
    """Only the test's key is let in."""
    return Access(Keys([KEY]))
