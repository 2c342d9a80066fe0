"""`danlu generate`: the answer on stdout, nothing else, as it is written."""

import io
import subprocess
import sys

import pytest
from tests.tiny import tiny_model

from danlu.cli import main
from danlu.engine.model import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny").path


def test_stdout_holds_the_answer_and_a_line_break_and_nothing_else(folder, capsys):
    words = ["generate", str(folder), "Once 丹", "--max_tokens", "20", "--temperature", "0.9", "--seed", "5"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out == load(folder).generate("Once 丹", max_tokens=20, temperature=0.9, seed=5) + "\n"
    assert shown.err == ""
    assert main(words) == 0
    assert capsys.readouterr().out == shown.out


def test_the_prompt_may_come_from_stdin(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert main(["generate", str(folder), "-", "--max-tokens", "9"]) == 0
    assert capsys.readouterr().out == load(folder).generate("from a pipe", max_tokens=9) + "\n"


def test_it_streams(folder, monkeypatch):
    """Every piece is flushed by itself, before the next is computed."""
    flushed = []

    class Pipe(io.StringIO):
        def flush(self):
            flushed.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Pipe())
    assert main(["generate", str(folder), "x", "--max_tokens", "12", "--quiet"]) == 0
    assert len(set(flushed)) > 5


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["x" * 200], 2, "201 tokens"),
        (["x", "--max_tokens", "64"], 2, "--max_tokens 62"),
        (["x", "--temprature", "1"], 2, "did you mean temperature"),
        (["x", "--top_p", "1.5"], 2, "top_p"),
        ([], 2, "prompt: required"),
        (["x\0y"], 1, "NUL"),
        (["x", "--window", "90"], 2, "model's context, 64"),
        (["x", "--sinks", "3"], 2, "give --window too"),
        (["x", "--window", "9", "--suffix", "y"], 2, "not both"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr(folder, capsys, words, code, said):
    assert main(["generate", str(folder), *words]) == code
    shown = capsys.readouterr()
    assert said in shown.err and shown.out == ""


def test_with_a_window_prompt_and_answer_are_of_any_length(folder, capsys):
    words = ["generate", str(folder), "x" * 200, "--max_tokens", "30", "--window", "20", "--sinks", "2", "--seed", "4"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert shown.out.endswith("\n") and len(shown.out) > 1 and shown.err == ""


def test_a_folder_that_is_no_model(tmp_path, capsys):
    assert main(["generate", str(tmp_path), "x"]) == 2
    assert "config.json" in capsys.readouterr().err


def test_as_a_process_another_run_gives_the_same_bytes(folder):
    command = [sys.executable, "-m", "danlu", "generate", str(folder), "a<|endoftext|>b", "--max_tokens", "15", "--seed", "2"]
    first, second = (subprocess.run(command, capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout and first.stdout.endswith(b"\n") and first.stderr == b""
