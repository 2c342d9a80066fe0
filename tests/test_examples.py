"""The examples run from beginning to end, at toy size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import write_tiny

ROOT = Path(__file__).resolve().parents[1]


def test_the_life_of_a_model(tmp_path):
    command = [sys.executable, ROOT / "examples" / "life_of_a_model.py", tmp_path / "life", "100k tokens"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "It is known that three plus four is" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].strip().startswith("source"), done.stdout
    assert {path.name for path in (tmp_path / "life").iterdir()} >= {"text", "data", "tokenizer", "model"}


def test_a_server_is_asked_and_answers_alike_alone_and_among_others(tmp_path):
    pytest.importorskip("uvicorn", reason="the server needs pip install 'danlu[serve]'")
    write_tiny(tmp_path / "model", max_position_embeddings=128)
    command = [sys.executable, ROOT / "examples" / "serve_and_ask.py", tmp_path / "model"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    alone, crowd, held = done.stdout.splitlines()
    assert alone.partition(": ")[2].startswith(crowd.partition(": ")[2])
    assert held.removeprefix("one of two: ") in ("yes", "no")


@pytest.mark.slow
def test_two_replicas_answer_alike_behind_one_address(tmp_path):
    pytest.importorskip("ray.serve", reason="replicas need pip install 'danlu[serve,ray]'")
    write_tiny(tmp_path / "model")
    done = subprocess.run([sys.executable, "-c", REPLICAS, ROOT / "examples", tmp_path / "model"], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    replicas, answers = done.stdout.splitlines()[-1].split()
    assert (replicas, answers) == ("2", "3")


REPLICAS = """
import json, socket, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import ray, ray_serve
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
ray_serve.serve_replicas(Path(sys.argv[2]), 2, port)

def ask(number):
    body = {"model": "model", "prompt": f"hello {number % 3}", "max_tokens": 4, "temperature": 0}
    url = f"http://127.0.0.1:{port}/v1/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["x-replica"], number % 3, json.load(answer)["choices"][0]["text"]

with ThreadPoolExecutor(8) as clients:
    found = list(clients.map(ask, range(24)))
print(len({replica for replica, _, _ in found}), len({(prompt, text) for _, prompt, text in found}))
ray.shutdown()
"""


def test_every_example_is_run_here():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {"life_of_a_model.py", "serve_and_ask.py", "ray_serve.py"}
