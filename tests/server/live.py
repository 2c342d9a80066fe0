"""Our own server, started for real on a free port of this machine, with models that were trained on nothing."""

import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from danlu.engine.opening import Serving
from danlu.server.app import Access, create_app
from danlu.server.auth import Keys
from danlu.server.limits import HEADER_BYTES, Limits, protocol
from danlu.server.models import parse_models
from danlu.server.service import Service
from tests.server.speaker import write_speaker
from tests.tiny import write_tiny

KEY = "key-of-the-tests"
READY_S = 30


@contextmanager
def live(folder: Path, *, embedder: bool = False, rows: int = 8, **limits: Any):
    """The address of a server of `maker/speaker`, and of `embedder` where wanted; it asks for KEY."""
    words = [f"maker/speaker={write_speaker(folder / 'speaker')}"]
    if embedder:
        write_tiny(folder / "embedder", "bert")
        words.append(f"embedder={folder / 'embedder'}")
    service = Service(parse_models(words), Limits(**limits))
    config = uvicorn.Config(
        create_app(service, Access(Keys([KEY]))), host="127.0.0.1", port=0, http=protocol(service.limits), ws="none",
        h11_max_incomplete_event_size=HEADER_BYTES, log_level="warning", timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    service.open(Serving(rows=rows, cache_tokens=8192))
    thread.start()
    try:
        yield ready(server, service)
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"


def ready(server: uvicorn.Server, service: Service) -> str:
    """The address, once /health is 200."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if service.failed is not None:
            raise service.failed
        if server.started:
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                return url
            except OSError:
                pass  # 503 while models are opened
        time.sleep(0.02)
    raise AssertionError("the server was not ready in time")
