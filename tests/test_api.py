"""The commands as functions: the whole life in Python, inputs placed as on the command line, names that folders share."""

import importlib
import random

import pytest
import torch

import danlu
from danlu.core.errors import BadSettings
from danlu.train import speed
from tests.stages.small_pretrain import SMALL, pace

WORDS = ("the", "river", "and", "a", "winter", "of", "garden", "with", "to", "letter", "that")


@pytest.fixture
def notes(tmp_path, monkeypatch):
    rng = random.Random(0)
    (tmp_path / "notes").mkdir()
    for number in range(7):
        text = "\n\n".join(" ".join(rng.choices(WORDS, k=60)) for _ in range(5))
        (tmp_path / "notes" / f"{number}.txt").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "measure", lambda threads=None, dtype=None: pace())
    return tmp_path


def test_the_whole_life_in_python(notes, capsys):
    engine = {"name": "sequential"}
    data = danlu.prepare("notes", out="data", filters=["length"], engine=engine, holdout=0.2)
    assert danlu.prepare(sources=["notes"], out="again", filters=["length"], engine=engine, holdout=0.2).id == data.id
    tokenizer = danlu.tokenizer("data", out="tokenizer", vocab_size=280, compare=False)
    model = danlu.pretrain("data", out="model", tokenizer=tokenizer.path, **{**SMALL, "steps": 5})
    opened = danlu.load("model")
    ids = torch.arange(6).view(2, 3)
    logits = opened.logits(ids)
    assert logits.shape == (2, 3, 280) and logits.dtype == torch.float32
    torch.testing.assert_close(logits[0], opened.logits(ids[:1])[0], rtol=1e-4, atol=1e-5)
    assert opened.tokenizer.decode(opened.tokenizer.encode("the river")) == "the river"
    capsys.readouterr()
    answer = opened.generate("the ", max_tokens=8, seed=3)
    assert isinstance(answer, str) and answer == opened.generate("the ", max_tokens=8, seed=3)
    danlu.generate("model", "the ", max_tokens=8, seed=3)
    assert capsys.readouterr().out == answer + "\n"
    report = danlu.evaluate("model", text=["notes/1.txt"], out="report")
    assert report.lineage.inputs[0].id == model.id and report.lineage.metrics["models"][0]["bits_per_byte"] > 0


def test_inputs_are_placed_as_on_the_command_line():
    from danlu.stages.evaluate import Evaluate
    from danlu.stages.feedback import Feedback
    from danlu.stages.prepare import Prepare

    assert danlu._place("prepare", Prepare, ("a", "b")) == {"sources": ["a", "b"]}
    assert danlu._place("prepare", Prepare, (["a", "b"],)) == {"sources": ["a", "b"]}
    assert danlu._place("evaluate", Evaluate, ("m",)) == {"models": ["m"]}
    for models in (("m", "n"), (["m", "n"],)):
        assert danlu._place("feedback", Feedback, (*models, "p")) == {"models": ["m", "n"], "prompts": "p"}
    with pytest.raises(BadSettings, match=r"1 input\(s\) too many \(inputs here: dataset\)"):
        danlu.pretrain("data", "model")
    with pytest.raises(BadSettings, match="did you mean out"):
        danlu.prepare("notes", ouut="data")


@pytest.mark.parametrize("name", ["tokenizer", "evaluate"])
def test_a_stage_that_shares_its_name_with_a_folder_stays_callable(name):
    importlib.import_module(f"danlu.{name}")
    room = getattr(danlu, name)
    importlib.reload(room)
    with pytest.raises(BadSettings, match="out: required"):
        room()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        danlu.nonsense  # noqa: B018
