"""`danlu chat`: lines in, answers out, notices on stderr."""

import io
import sys

import pytest
from tests.tiny import tiny_model

import danlu
from danlu.cli import main
from danlu.core.errors import BadSettings
from danlu.engine.model import load
from danlu.engine.request import Sampling
from danlu.stages.chat import Session


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny", max_position_embeddings=128).path


def talk(folder, monkeypatch, capsys, text, *flags):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert main(["chat", str(folder), "--max_tokens", "10", *flags]) == 0
    return capsys.readouterr()


def test_a_base_model_continues_the_document_and_says_so(folder, monkeypatch, capsys):
    shown = talk(folder, monkeypatch, capsys, "first\nsecond\n")
    assert "base model" in shown.err
    model = load(folder)
    one = model.generate("first", max_tokens=10)
    two = model.generate(f"first{one}\nsecond", max_tokens=10)
    assert shown.out == f"{one}\n{two}\n"


def test_reset_forgets_and_seed_changes_the_draw(folder, monkeypatch, capsys):
    shown = talk(folder, monkeypatch, capsys, "line\n/reset\nline\n/reset\n/seed 9\nline\n/quit\nnever\n", "--seed", "1")
    model = load(folder)
    same, other = (model.generate("line", max_tokens=10, seed=seed) + "\n" for seed in (1, 9))
    assert same != other
    assert shown.out == same + same + other
    assert "Forgotten." in shown.err and "Seed 9." in shown.err


def test_help_and_unknown_commands_answer_on_stderr(folder, monkeypatch, capsys):
    shown = talk(folder, monkeypatch, capsys, "/help\n/dance\n\n")
    assert shown.out == "" and "/reset" in shown.err and "No such command: /dance" in shown.err


def test_a_full_context_begins_anew_and_says_so(folder, monkeypatch, capsys):
    shown = talk(folder, monkeypatch, capsys, f"{'a' * 90}\n{'b' * 90}\n")
    assert "begins anew" in shown.err
    assert shown.out.endswith(load(folder).generate("b" * 90, max_tokens=10) + "\n")


def test_a_line_that_cannot_fit_is_refused_and_the_conversation_goes_on(folder, monkeypatch, capsys):
    shown = talk(folder, monkeypatch, capsys, f"{'a' * 500}\nhello\n")
    assert "501 tokens" in shown.err
    assert shown.out == load(folder).generate("hello", max_tokens=10) + "\n"


class Interrupted:
    """A model whose answer is interrupted after two pieces."""

    context, tokenizer = 99, None

    def encode(self, text):
        return list(text)

    def write(self, prompt, sampling):
        yield "one "
        yield "two"
        raise KeyboardInterrupt


def test_an_interrupted_answer_keeps_what_was_said(capsys):
    session = Session(Interrupted(), Sampling())
    session.answer("say ")
    assert session.document == "say one two\n"
    assert capsys.readouterr().out == "one two\n"


def test_an_interrupt_at_the_prompt_leaves(folder, monkeypatch, capsys):
    class Hand(io.StringIO):
        def readline(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Hand())
    assert main(["chat", str(folder)]) == 0
    assert capsys.readouterr().out == ""


def test_eliza_answers_without_a_model_and_takes_no_settings(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("My garden is dry\n/reset\nHm\n我的工作很累\n/quit\nnever read\n"))
    danlu.chat("eliza")
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["Your garden is dry?", "Please say more about that.", "你的工作很累？"]
    assert "Forgotten." in shown.err
    with pytest.raises(BadSettings, match=r"eliza takes no settings.*--temperature"):
        danlu.chat("eliza", temperature=0.5)
