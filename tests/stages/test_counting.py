"""`danlu pretrain --model.name ngram` counts, and what it leaves is a model like any other."""

import json

import pytest
import torch
from tests.stages.small_pretrain import write_dataset

import danlu
from danlu.core.artifact import open_artifact
from danlu.core.errors import BadSettings, OutputExists


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    write_dataset(folder / "data")
    danlu.pretrain(folder / "data", out=folder / "model", model={"name": "ngram", "order": 4})
    return folder


def test_the_folder_is_an_artefact_with_ledger_card_and_report(folder):
    record = open_artifact(folder / "model", "model", verify=True).lineage
    row = record.ledger["tokens"]
    assert row["trained_on"] == row["learnable"] and row["left_out"] == 0
    assert record.metrics["order"] == 4 and 0 < record.metrics["bits_per_byte"] < 2
    assert [source.role for source in record.inputs] == ["dataset"]
    assert "Only Danlu has this family" in (folder / "model" / "README.md").read_text()
    report = json.loads((folder / "model" / "report.json").read_text())
    assert [row["ngrams"] > 0 for row in report["orders"]] == [True] * 4 and report["samples"]


def test_it_generates_and_evaluates_as_any_model(folder):
    model = danlu.load(folder / "model")
    assert model.generate("the cat", max_tokens=8, temperature=0) == model.generate("the cat", max_tokens=8, temperature=0)
    logits = model.logits([model.encode("the cat sat")])
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(logits.shape[:2]))
    (folder / "text.txt").write_text("the cat sat on the mat. birds sing when it rains. " * 5)
    made = danlu.evaluate(folder / "model", text=[folder / "text.txt"], out=folder / "report")
    assert 0 < made.lineage.metrics["models"][0]["bits_per_byte"] < 3


def test_a_finished_model_is_refused_and_the_same_counts_come_again(folder):
    with pytest.raises(OutputExists):
        danlu.pretrain(folder / "data", out=folder / "model", model={"name": "ngram", "order": 4})
    again = danlu.pretrain(folder / "data", out=folder / "again", model={"name": "ngram", "order": 4})
    first = open_artifact(folder / "model").lineage
    hashes = [{output.file: output.sha256 for output in one.outputs}["model.safetensors"] for one in (first, again.lineage)]
    assert hashes[0] == hashes[1]


def test_a_budget_of_tokens_takes_a_share(folder):
    made = danlu.pretrain(folder / "data", out=folder / "share", model={"name": "ngram", "order": 2}, budget="500 tokens")
    assert made.lineage.ledger["tokens"]["trained_on"] == 500


def test_settings_without_effect_are_refused_by_name(folder):
    with pytest.raises(BadSettings, match="--steps, --row_tokens would change nothing"):
        danlu.pretrain(folder / "data", out=folder / "none", model={"name": "ngram"}, steps=3, row_tokens=64)
