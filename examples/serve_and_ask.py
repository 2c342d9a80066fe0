"""Serve a model from Python, ask it as any client would, and stop: python examples/serve_and_ask.py MODEL

Uses nothing but the standard library to ask. The same with the `openai` package: docs/en/tutorials/serve.md.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


@contextlib.contextmanager
def served(model: Path) -> Iterator[str]:
    """The address of a server of our own, which only we can ask: it has a key, and this process knows it."""
    os.environ["DANLU_API_KEY"] = os.urandom(16).hex()
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "danlu", "serve", f"it={model}", "--port", "0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=log, text=True)
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(iter(server.stderr.readline, "")), daemon=True)  # type: ignore[union-attr]
        reader.start()
        try:
            yield wait(server, said)
        finally:
            server.terminate()  # answers under way are finished
            server.wait(60)


def wait(server: subprocess.Popen[str], said: list[str]) -> str:
    """Until it is ready. With --port 0 it takes a free port and says which."""
    for _ in range(1200):
        if server.poll() is not None:
            raise SystemExit("".join(said))
        found = [line.split()[line.split().index("on") + 1] for line in said if "listening on" in line]
        if found and any("ready" in line for line in said):
            return found[0]
        time.sleep(0.05)
    raise SystemExit("the server was not ready within a minute")


def ask(url: str, path: str, body: dict[str, object]) -> dict:
    """One request. An error of the server says what was wrong with it."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['DANLU_API_KEY']}"}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)  # noqa: S310  # our own address
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        found: dict = json.load(answer)
        return found


def main() -> None:
    """Ask once, ask many at a time, ask for a form."""
    model = Path(sys.argv[1] if len(sys.argv) > 1 else "model")
    with served(model) as url:
        body = {"model": "it", "prompt": "It is known that", "max_tokens": 12, "seed": 7}
        alone = ask(url, "/v1/completions", body)
        print("alone:", repr(alone["choices"][0]["text"]), alone["usage"])

        prompts = [f"It is known that {number} plus one is" for number in range(7)]
        with ThreadPoolExecutor(8) as clients:
            crowd = [clients.submit(ask, url, "/v1/completions", {**body, "prompt": prompt}) for prompt in prompts]
            again = clients.submit(ask, url, "/v1/completions", body).result()
            texts = [one.result()["choices"][0]["text"] for one in crowd]
        print(f"among {len(texts)} others:", repr(again["choices"][0]["text"]))
        if again["choices"][0]["text"] != alone["choices"][0]["text"]:
            raise SystemExit("the same request had another answer")

        held = ask(url, "/v1/completions", {**body, "choices": ["yes", "no"], "max_tokens": 8})
        print("one of two:", held["choices"][0]["text"])


if __name__ == "__main__":
    main()
