"""`danlu chat`: lines in, answers out, notices on stderr."""

import io
import json
import sys

import pytest
from tests.tiny import tiny_model, write_tiny

import danlu
from danlu.cli import main
from danlu.core.errors import BadInput, BadSettings
from danlu.engine.converse import prompt_ids, reply
from danlu.engine.model import load
from danlu.engine.request import Sampling
from danlu.stages.chat import Session, Talk
from danlu.tokenizer.chat import CHATML, encode_chat
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import with_template


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


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    """A model with a chat template."""
    found = tmp_path_factory.mktemp("models") / "speaker"
    write_tiny(found, max_position_embeddings=192)
    with_template(Tokenizer.open(found), CHATML).save(found)
    return found


def turns(*said):
    return [{"role": role, "content": words} for role, words in zip(("user", "assistant") * 9, said)]


def test_a_model_with_a_template_holds_a_conversation_in_its_form(speaker, monkeypatch, capsys):
    shown = talk(speaker, monkeypatch, capsys, "first\nsecond\n", "--system", "Be kind.")
    assert "answers in turns" in shown.err
    model, sampling = load(speaker), Sampling(max_tokens=10)
    system = {"role": "system", "content": "Be kind."}
    one = "".join(reply(model, [system, *turns("first")], sampling))
    two = "".join(reply(model, [system, *turns("first", one, "second")], sampling))
    assert shown.out == f"{one}\n{two}\n" and one != two
    assert prompt_ids(model, [system, *turns("first")]) == encode_chat(model.tokenizer, CHATML, [system, *turns("first")])


def test_the_server_answers_the_same(speaker):
    """One conversation, one prompt, one answer: whoever asks."""
    from tests.server.running import made_service, serving

    from danlu.server.models import Served

    with serving(made_service(Served("speaker", speaker))) as live:
        asked = {"model": "speaker", "messages": turns("first"), "max_tokens": 10, "temperature": 0}
        served = live.post("/v1/chat/completions", asked).json()["choices"][0]["message"]["content"]
    assert "".join(reply(load(speaker), turns("first"), Sampling(max_tokens=10, temperature=0))) == served


def test_system_retry_and_save(speaker, monkeypatch, capsys, tmp_path):
    place = tmp_path / "said.json"
    lines = f"/retry\n/system Be brief.\nfirst\n/retry\n/save {place}\n/save {place}\n/system\n/save {tmp_path / 'bare.json'}\n"
    shown = talk(speaker, monkeypatch, capsys, lines, "--seed", "3")
    model, asked = load(speaker), [{"role": "system", "content": "Be brief."}, *turns("first")]
    one, two = ("".join(reply(model, asked, Sampling(max_tokens=10, seed=seed))) for seed in (3, 4))
    assert shown.out == f"{one}\n{two}\n"
    assert json.loads(place.read_text()) == [*asked, {"role": "assistant", "content": two}]
    assert json.loads((tmp_path / "bare.json").read_text()) == turns("first", two)
    assert "There is no answer yet." in shown.err and "already there" in shown.err


def test_a_base_model_retries_and_has_no_system(folder, monkeypatch, capsys):
    shown = talk(folder, monkeypatch, capsys, "first\n/retry\n/system Be brief.\n")
    model = load(folder)
    assert shown.out == "".join(model.generate("first", max_tokens=10, seed=seed) + "\n" for seed in (0, 1))
    assert "for models with a chat template" in shown.err
    with pytest.raises(BadSettings, match="--system would change nothing"):
        danlu.chat(folder, system="Be brief.")


def test_a_conversation_that_no_longer_fits_is_refused_or_loses_its_oldest_exchange(speaker, monkeypatch, capsys):
    lines = f"{'a' * 90}\n{'b' * 90}\n"
    refused = talk(speaker, monkeypatch, capsys, lines)
    assert "Nothing was dropped" in refused.err and refused.out.count("\n") == 1
    dropped = talk(speaker, monkeypatch, capsys, lines, "--overlong", "drop")
    assert "the oldest 1 exchange(s)" in dropped.err
    alone = "".join(reply(load(speaker), turns("b" * 90), Sampling(max_tokens=10)))
    assert dropped.out.endswith(f"{alone}\n") and dropped.out.count("\n") == 2


class Thinker:
    """A model that thinks aloud, in pieces that cut its marks in two."""

    context, path = 999, "thinker"
    tokenizer = type("T", (), {"chat_template": "<think></think>"})()


def test_what_is_thought_is_told_apart_and_streams(capsys):
    seen = []

    def pieces():
        for piece in ("<thi", "nk>Hm", ".</thi", "nk>\nYes", ", sir"):
            seen.append(piece)
            yield piece

    talk = Talk(Thinker(), Sampling())
    first = next(iter(talk._seen(pieces())))
    assert first == "Yes" and len(seen) == 4  # shown before the rest was written
    assert capsys.readouterr().err == "Hm.\n"


def test_one_answer_of_generate_is_the_first_of_a_chat(speaker, folder, capsys):
    assert main(["generate", str(speaker), "first", "--chat", "--max_tokens", "10"]) == 0
    assert capsys.readouterr().out == "".join(reply(load(speaker), turns("first"), Sampling(max_tokens=10))) + "\n"
    with pytest.raises(BadInput, match="no chat template"):
        danlu.generate(folder, "first", chat=True)
    with pytest.raises(BadSettings, match="answered in turns"):
        danlu.generate(speaker, "first", chat=True, suffix="x")
