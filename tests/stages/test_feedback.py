"""`danlu feedback`: two answers, one choice, nothing lost, a data set at the end."""

import io
import json
import sys

import pytest
from tests.tiny import tiny_model, write_tiny

import danlu
from danlu.apps.feedback.collection import Collection
from danlu.cli import main
from danlu.core.artifact import open_artifact
from danlu.core.errors import BadInput, BadSettings, NoUsableText, OutputExists, WorkFolderMismatch
from danlu.data.shards import read_documents
from danlu.engine.converse import reply
from danlu.engine.model import load
from danlu.engine.request import Sampling
from danlu.stages.feedback import answer
from danlu.tokenizer.chat import CHATML
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import with_template


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models that converse."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("old", "new")):
        write_tiny(folder / name, seed=seed, max_position_embeddings=128)
        with_template(Tokenizer.open(folder / name), CHATML).save(folder / name)
    return folder / "old", folder / "new"


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "asked.txt").write_text("Name a metal.\n丹是什么？\nCount.\nWhy?\n", encoding="utf-8")
    return tmp_path / "asked.txt"


def judge(monkeypatch, capsys, lines, *words):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    code = main(["feedback", *map(str, words), "--max_tokens", "6"])
    return code, capsys.readouterr()


def test_from_two_models_to_preferences(models, prompts, tmp_path, monkeypatch, capsys):
    words = (*models, prompts, "-o", tmp_path / "out", "--annotator", "ann")
    code, shown = judge(monkeypatch, capsys, "1 clearer\n=\nwhat\n2\n0\n", *words)
    assert code == 0 and "Everything is judged" in shown.err
    assert "2 of the better answers were cut at --max_tokens" in shown.err
    assert "user: 丹是什么？" in shown.out and shown.out.count("── answer 2 ──") == 4
    assert "old" not in shown.out and "new" not in shown.out  # blind
    made = open_artifact(tmp_path / "out", "dataset", verify=True)
    rows = list(read_documents(made.path)) + list(read_documents(made.path, "validation"))
    pairs = {pair.id: pair for pair in Collection(tmp_path / "out.run").pairs()}
    judged = {one.pair: one for one in Collection(tmp_path / "out.run").judgements()}
    assert [one.choice for one in judged.values()] == ["first", "tie", "second", "bad"]
    assert judged["000001"].reason == "clearer" and judged["000001"].seconds >= 0
    chosen = {pairs[name].answers[one.winner].text for name, one in judged.items() if one.winner is not None}
    assert {json.loads(row.sample["chosen"])[0]["content"] for row in rows} == chosen and len(rows) == 2
    assert {row.sample["annotator"] for row in rows} == {"ann"}
    assert {part.role for part in made.lineage.inputs} == {"prompts", "model"} and len(made.lineage.inputs) == 3
    assert made.lineage.ledger["total"]["all"]["read"]["documents"] == 4
    assert [[answer.model for answer in pair.answers] for pair in pairs.values()] == [["old", "new"]] * 4


def test_the_answers_are_the_models_own(models, prompts, tmp_path):
    danlu.feedback(list(models), prompts, out=tmp_path / "out", prepare=True, max_tokens=6)
    (first, *_) = Collection(tmp_path / "out.run").pairs()
    for path, kept in zip(models, first.answers, strict=True):
        asked, sampling = [{"role": "user", "content": "Name a metal."}], Sampling(max_tokens=6, seed=kept.seed)
        assert "".join(reply(load(path), asked, sampling)) == kept.text and kept.model == path.name


def test_leaving_keeps_everything_and_the_same_command_goes_on(models, prompts, tmp_path, monkeypatch, capsys):
    words = (*models, prompts, "-o", tmp_path / "out")
    code, shown = judge(monkeypatch, capsys, "1\n2\n/undo\n/undo\n/undo\n1\n/quit\n", *words)
    assert code == 0 and "Kept." in shown.err and "Nothing was judged yet." in shown.err and not (tmp_path / "out").exists()
    assert [one.pair for one in Collection(tmp_path / "out.run").judgements()] == ["000001"]
    before = [pair.answers for pair in Collection(tmp_path / "out.run").pairs()]
    code, shown = judge(monkeypatch, capsys, "2 yes\n/finish\n", *words)
    assert code == 0 and "── 2 of 4 ──" in shown.out and "── 1 of 4 ──" not in shown.out
    assert [pair.answers for pair in Collection(tmp_path / "out.run").pairs()][: len(before)] == before
    verdicts = open_artifact(tmp_path / "out").lineage.metrics["verdicts"]
    assert verdicts["preferred"] == 2 and verdicts["not judged"] == 1  # the third was shown, the fourth never written
    with pytest.raises(OutputExists):
        danlu.feedback(list(models), prompts, out=tmp_path / "out", max_tokens=6)


def test_other_settings_are_refused_where_judging_has_begun(models, prompts, tmp_path):
    danlu.feedback(list(models), prompts, out=tmp_path / "out", prepare=True, max_tokens=3)
    with pytest.raises(WorkFolderMismatch, match="max_tokens: 3 there, 4 now"):
        danlu.feedback(list(models), prompts, out=tmp_path / "out", prepare=True, max_tokens=4)
    with pytest.raises(NoUsableText, match=r"4 not judged.*nothing to learn from"):
        danlu.feedback(list(models), prompts, out=tmp_path / "out", finish=True, max_tokens=3)
    assert not (tmp_path / "out").exists()


def test_one_model_answers_with_two_seeds(models, prompts, tmp_path):
    danlu.feedback([models[0]], prompts, out=tmp_path / "out", prepare=True, max_tokens=6, most=2, system="Be brief.")
    pairs = Collection(tmp_path / "out.run").pairs()
    assert len(pairs) == 2 and all(pair.answers[0].seed != pair.answers[1].seed and not pair.same for pair in pairs)
    assert pairs[0].prompt[0] == {"role": "system", "content": "Be brief."}
    with pytest.raises(BadSettings, match="same answer twice"):
        danlu.feedback([models[0]], prompts, out=tmp_path / "cold", temperature=0)


def test_a_base_model_goes_on_with_single_texts(tmp_path):
    base = load(tiny_model(tmp_path / "base").path)
    thought, said, ended = answer(base, [{"role": "user", "content": "Once"}], Sampling(max_tokens=5))
    assert (thought, said, ended) == ("", base.generate("Once", max_tokens=5), False)
    with pytest.raises(BadInput, match="no chat template"):
        answer(base, [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}], Sampling(max_tokens=5))


def test_align_learns_from_what_people_said(models, prompts, tmp_path):
    """The data set is one that `danlu align` takes as it is, its own pre-flight included."""
    danlu.feedback(list(models), prompts, out=tmp_path / "prefs", prepare=True, max_tokens=6)
    found = Collection(tmp_path / "prefs.run")
    while question := found.next("ann"):
        longer = len(question.texts[1]) > len(question.texts[0])
        found.judge(question.pair.id, "ann", ("first", "second")[longer])
    made = danlu.feedback(list(models), prompts, out=tmp_path / "prefs", finish=True, max_tokens=6, holdout=0)
    aligned = danlu.align(models[0], made.path, out=tmp_path / "aligned", objective="dpo", steps=1, batch=4)
    assert aligned.lineage.ledger["preflight"]["train"]["taught_turns"] == 8  # four chosen, four rejected
    assert made.id in [part.id for part in aligned.lineage.inputs]
