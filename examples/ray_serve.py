"""Replicas of a model's server behind one address, with Ray Serve: python examples/ray_serve.py MODEL --replicas 2

Needs `pip install 'danlu[serve,ray]'`. Each replica is the whole server of `danlu serve` with an engine and a cache of its own;
Ray starts them, sends each request to one that has room, and starts a new one where one dies. On a cluster the same file spreads
them over machines: the model's folder must be there under the same path. Ray's processes trust one another: keep its ports to
yourself.
"""

import argparse
import asyncio
import os
import time
from pathlib import Path
from typing import Any


def application(model: Path, threads: int) -> Any:
    """What makes the server of one replica, in the replica's own process."""

    def build() -> Any:
        import torch

        from danlu.engine.opening import Serving
        from danlu.server.app import Access, create_app
        from danlu.server.auth import Keys
        from danlu.server.models import parse_models
        from danlu.server.service import Service

        torch.set_num_threads(threads)
        service = Service(parse_models([str(model)], [], None))
        service.open(Serving())
        app = create_app(service, Access(Keys.read(), hosts=None), page=False)

        async def with_replica(scope: Any, receive: Any, send: Any) -> None:
            """The server's answer, and which process gave it."""

            async def marked(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message.get("headers", []), (b"x-replica", str(os.getpid()).encode())]}
                await send(message)

            while service.state() == "loading" and scope["type"] == "http":
                await asyncio.sleep(0.05)
            await app(scope, receive, marked)

        return with_replica

    return build


def serve_replicas(model: Path, replicas: int, port: int, threads: int = 1) -> None:
    """Start them; returns when all are ready."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    from ray import serve

    class Replica:
        """Nothing but the server: see `application`."""

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    made = serve.ingress(application(model.resolve(), threads))(Replica)
    deployment = serve.deployment(num_replicas=replicas, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})(made)
    serve.run(deployment.bind(), name="danlu", route_prefix="/")


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=1, help="of each replica")
    asked = parser.parse_args()
    serve_replicas(asked.model, asked.replicas, asked.port, asked.threads)
    print(f"{asked.replicas} replicas at http://127.0.0.1:{asked.port}/v1")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
