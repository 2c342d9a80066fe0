"""Servers to be measured side by side: Danlu's, llama.cpp's, transformers'; started on loopback, waited for, stopped.

All of one comparison hold the same model in weights of the same width, on the same threads. Peers are given by their paths:
llama.cpp's folder of programs with a folder of GGUF files named m-f32.gguf, m-f16.gguf, m-q8_0.gguf, m-q4_0.gguf, and the
`transformers` command of any environment.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 180
GGUF = {"fp32": "f32", "bf16": "f16", "int8": "q8_0", "int4": "q4_0"}
"""llama.cpp's nearest form to each of our weights."""


@dataclass(frozen=True)
class Side:
    """A server that is not running."""

    name: str
    command: tuple[str, ...]
    """`{port}` stands for the port."""
    model: str
    """What requests call the model."""
    extra: dict = field(default_factory=dict)
    """What each request says beside: answers must not end early."""
    environment: dict = field(default_factory=dict)


@dataclass
class Live:
    """A server that is running."""

    side: Side
    url: str
    process: subprocess.Popen
    started: float
    ready_s: float

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the process and its children."""
        import harness

        return sum(harness._resident(pid) for pid in harness._family(self.process.pid))

    @property
    def peak_bytes(self) -> int:
        """Most that the process itself ever held."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def arguments(parser):
    """The words that say where the model and the peers are."""
    parser.add_argument("--model", type=Path, required=True, help="model folder of the Llama family, with tokenizer.json")
    parser.add_argument("--llama", type=Path, help="folder with llama-server and llama-bench")
    parser.add_argument("--gguf", type=Path, help="folder with m-f32.gguf, m-f16.gguf, m-q8_0.gguf, m-q4_0.gguf")
    parser.add_argument("--transformers", type=Path, help="the `transformers` command")
    parser.add_argument("--threads", type=int, default=2)


def threads_of(count):
    """Environment that holds libraries to so many threads."""
    return {name: str(count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}


def danlu(asked, weights, rows=16, tokens=None, guess="off"):
    """Our server. tokens: room in the cache, the same that llama.cpp is given. guess: random weights repeat themselves, and
    guessing ahead would shine on that for no good reason."""
    room = ("--cache_tokens", str(tokens)) if tokens else ()
    return Side(f"danlu {weights}", (sys.executable, "-m", "danlu", "serve", str(asked.model), "--port", "{port}", "--weights",
                                     weights, "--rows", str(rows), "--guess", guess, *room),
                asked.model.resolve().name, {"ignore_eos": True}, threads_of(asked.threads))  # fmt: skip


def llama(asked, weights, rows=16, tokens=4096):
    """llama.cpp's server; its cache is in float16, which is its default."""
    form, threads = GGUF[weights], str(asked.threads)
    return Side(f"llama.cpp {form}", (str(asked.llama / "llama-server"), "-m", str(asked.gguf / f"m-{form}.gguf"), "-t", threads,
                                      "-tb", threads, "-np", str(rows), "-c", str(tokens), "--host", "127.0.0.1", "--port",
                                      "{port}"), "m", {"ignore_eos": True})  # fmt: skip


def transformers(asked, batching=False):
    """transformers serve, float32, on the processor."""
    more, said = (("--continuous-batching",), ", continuous batching") if batching else ((), "")
    return Side(f"transformers fp32{said}",
                (str(asked.transformers), "serve", str(asked.model), "--host", "127.0.0.1", "--port", "{port}", "--device", "cpu",
                 "--dtype", "float32", *more), str(asked.model), {},
                {**threads_of(asked.threads), "HF_HUB_OFFLINE": "1"})  # fmt: skip


@contextlib.contextmanager
def running(side, poll_s=0.1):
    """Start, wait until /health says 200, give a Live, stop."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [word.replace("{port}", str(port)) for word in side.command]
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **side.environment})
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, log, poll_s)
            yield Live(side, url, process, started, time.perf_counter() - started)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url, process, log, poll_s):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{_said(log)}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(poll_s)
    raise RuntimeError(f"the server was not ready after {PATIENCE_S} s:\n{_said(log)}")


def _said(log):
    log.seek(0)
    return log.read()[-3000:].decode(errors="replace")


def ask(live, prompt, tokens):
    """One completion, not streamed."""
    body = {"model": live.side.model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, **live.side.extra}
    request = urllib.request.Request(f"{live.url}/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{live.side.name}: {error.code} {error.read()[:500]!r}") from None


def versions(asked):
    """Versions of the peers."""
    from danlu.core.machine import version

    found = {"danlu": version("danlu"), "torch": version("torch")}
    if asked.llama:
        done = subprocess.run([asked.llama / "llama-server", "--version"], capture_output=True, text=True, check=False)
        found["llama.cpp"] = " ".join((done.stderr + done.stdout).split("\n")[0].split())
    if asked.transformers:
        words = [asked.transformers.parent / "python", "-c", "import transformers; print(transformers.__version__)"]
        found["transformers"] = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return found
