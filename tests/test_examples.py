"""The examples run from beginning to end, at toy size."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_life_of_a_model(tmp_path):
    command = [sys.executable, ROOT / "examples" / "life_of_a_model.py", tmp_path / "life", "100k tokens"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "It is known that three plus four is" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].strip().startswith("source"), done.stdout
    assert {path.name for path in (tmp_path / "life").iterdir()} >= {"text", "data", "tokenizer", "model"}


def test_every_example_is_run_here():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == {"life_of_a_model.py"}
