"""Architectures, objectives and labels that do not go together: refused in words, before anything is measured or written."""

import json

import pytest

from danlu.cli import main
from danlu.train import speed
from tests.stages.small_pretrain import flags, settings, write_dataset, write_tokenizer
from tests.tiny import write_tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset, a tokenizer without marks, models of three kinds, and labelled samples."""
    folder = tmp_path_factory.mktemp("made")
    write_dataset(folder / "data")
    write_tokenizer(folder / "tokenizer")
    for family in ("qwen3", "bert", "t5"):
        write_tiny(folder / family, family)
    for name, labels, words in [("labels", "ab", 2), ("one", "a", 2), ("long", "ab", 100)]:
        rows = [{"text": f"{'word ' * words}{at}", "label": labels[at % len(labels)]} for at in range(30)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = ["prepare", str(folder / f"{name}.jsonl"), "-o", str(folder / name), "--form", "labels"]
        assert main([*words, "--dedups=[]", "--holdout=0.2", "--engine=sequential", "--quiet"]) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, "measure", lambda *_, **__: pytest.fail("the machine was measured for a run that cannot be"))
    return tmp_path


def files(folder):
    """Paths and contents of all that stays, work folders aside: they hold a lock."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in found if not any(part.endswith(".run") for part in path.parts)}


def refused(made, here, capsys, *words):
    before = files(made), files(here)
    capsys.readouterr()
    assert main([str(word) for word in words]) in (1, 2)
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert (files(made), files(here)) == before
    return said.err


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": {"name": "lama"}}, ["no model family called 'lama'", "Did you mean llama"]),
        ({"model": {"name": "bert"}}, ["bert is none", "For bert give --objective.name masked"]),
        ({"model": {"name": "t5"}}, ["t5 is none", "For t5 give --objective.name seq2seq, span"]),
        ({"model": {"name": "llama"}, "objective": {"name": "masked"}}, ["llama is none", "Families for masked: bert"]),
        ({"model": {"name": "mamba"}, "objective": {"name": "prefix"}}, ["mamba reads from left to right only", "qwen3"]),
        ({"model": {"name": "lstm"}, "objective": {"name": "prefix"}}, ["lstm reads from left to right only"]),
        ({"model": {"name": "bamba"}, "objective": {"name": "prefix"}}, ["bamba reads from left to right only"]),
        ({"objective": {"name": "fim"}}, ["<|fim_prefix|>, <|fim_middle|>, <|fim_suffix|>", "Leave --tokenizer out"]),
        ({"objective": {"name": "masked"}, "model": {"name": "bert"}}, ["'<|im_end|>' '<|mask|>'", "Leave --tokenizer out"]),
        ({"objective": {"name": "span"}, "model": {"name": "t5"}}, ["<|extra_0|> to <|extra_99|> (100)"]),
        ({"objective": {"name": "maskd"}}, ["Did you mean masked?"]),
        ({"objective": {"name": "classify"}}, ["danlu finetune"]),
        ({"objective": {"name": "seq2seq"}, "model": {"name": "t5"}}, ["prompt and answer", "--form.name answers"]),
        ({"vocab_size": 5000}, ["--vocab_size 5000", "brings one of 259 tokens", "Leave out"]),
        ({"model": {"name": "gpt2", "n_embd": 30, "n_head": 4}}, ["30", "4 heads"]),
        ({"model": {"name": "bert", "hidden_size": 30, "num_attention_heads": 4}}, ["30", "4 heads"]),
        ({"model": {"name": "t5", "num_layers": 0}}, ["num_layers", "greater than 0"]),
        ({"model": {"name": "mistral", "sliding_window": 0}}, ["sliding_window", "greater than 0"]),
        ({"model": {"name": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3}}, ["3 is more than the 2 experts"]),
        ({"model": {"name": "rwkv7", "hidden_size": 33}}, ["33 does not divide"]),
        ({"model": {"name": "mamba", "state_size": -1}}, ["state_size", "found -1"]),
    ],
)  # fmt: skip
def test_runs_that_cannot_be(made, here, capsys, changes, named):
    words = flags({**settings(made), "out": "out", "model": {}, **changes})
    said = refused(made, here, capsys, "pretrain", *words)
    assert all(part in said for part in named), said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["finetune", "qwen3", "one"], ["1 class(s) (a)", "2 or more"]),
        (["finetune", "qwen3", "long"], ["long.jsonl:", "--overlong"]),
        (["finetune", "qwen3", "data"], ["no labels, only text", "danlu prepare"]),
        (["finetune", "qwen3", "labels", "--objective.name", "tag"], ["words and tags"]),
        (["finetune", "qwen3", "labels", "--objective.name", "regress"], ["is no number"]),
        (["finetune", "t5", "labels"], ["t5"]),
        (["finetune", "qwen3", "labels", "--batch", "0"], ["batch"]),
        (["finetune", "qwen3", "labels", "--epochs", "-1"], ["epochs"]),
    ],
)
def test_labels_that_cannot_be_learned(made, here, capsys, words, named):
    stage, model, data, *more = words
    said = refused(made, here, capsys, stage, made / model, made / data, "-o", "out", *more)
    assert all(part in said for part in named), said
