"""The examples run from beginning to end, at toy size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from danlu.data.forms import FORMS
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


def test_sums_and_functions_become_samples_that_prepare_takes(tmp_path):
    """Small generators of data for the recipes: what they write is of the form that their recipes name."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "one.py").write_text('def half(x, /, y=2):\n    """Half of x."""\n    return x / y\n\ndef quiet():\n    pass\n')
    (library / "broken.py").write_text("def (")
    for name, words, form, count in (
        ("arithmetic", ["sums.jsonl", "--count", "40"], "verifiable", 40),
        ("arithmetic", ["talks.jsonl", "--count", "40", "--answers"], "chat", 40),
        ("stdlib_instructions", ["code.jsonl", "--library", str(library)], "alpaca", 1),
    ):
        command = [sys.executable, ROOT / "examples" / f"{name}.py", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in (tmp_path / words[0]).read_text().splitlines()]
        made = FORMS.build(FORMS[form].Config())
        taken = [made.take(row) for row in rows]
        assert 0.9 * count <= len(taken) <= count
        if form == "verifiable":
            for row in rows:
                assert eval(row["prompt"][0]["content"].rstrip("=")) == int(row["answer"])  # sums that were just written
    assert rows == [{"instruction": "Write the body of this Python function.\n\ndef half(x, /, y=2):", "input": "Half of x.",
                     "output": "return x / y"}]  # fmt: skip


@pytest.mark.slow
def test_three_people_are_answered_together_each_by_an_adapter_of_their_own(tmp_path):
    command = [sys.executable, ROOT / "examples" / "personalise.py", tmp_path / "people"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "BUT ALONE" not in done.stdout
    for name, drink in (("ada", "tea"), ("bo", "milk"), ("chen", "wine")):
        assert f"{name}: what do i drink? you drink {drink}." in done.stdout


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
    run = {"life_of_a_model", "serve_and_ask", "ray_serve", "personalise", "arithmetic", "stdlib_instructions"}
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == run
