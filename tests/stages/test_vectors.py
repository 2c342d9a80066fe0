"""`danlu vectors` from end to end: an artefact that opens, scores on stdout, a report with neighbours."""

import json

import pytest
from tests.stages.small_pretrain import write_dataset

import danlu
from danlu.core.artifact import open_artifact
from danlu.core.errors import OutputExists
from danlu.data.word_vectors import WordVectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    write_dataset(folder / "data", documents=80)
    (folder / "pairs.txt").write_text("cat mat 8\ncat river 2\ndog river 7\nbirds rains 6\ncat unicorn 1\n")
    (folder / "questions.txt").write_text(": toy\ncat mat dog river\n")
    return folder


def glove(folder, **changes):
    settings = {"method": {"name": "glove", "dimensions": 8, "epochs": 5}, "han": "characters", **changes}
    return danlu.vectors(folder / "data", out=folder / "vectors", overwrite=True, **settings)


def test_the_artefact_opens_and_its_ledger_adds_up(folder, capsys):
    made = glove(folder, similarity=[folder / "pairs.txt"], analogy=[folder / "questions.txt"], show=["cat", "火"])
    found = WordVectors.open(made.path)
    row = made.lineage.ledger["words"]
    assert row["words"] == row["with_vectors"] + row["too_rare"] and row["with_vectors"] == sum(found.counts)
    assert {"cat", "火"} <= set(found.words) and made.lineage.metrics["words"] == len(found.words)
    assert open_artifact(made.path, "vectors", verify=True).id == made.id
    assert [source.role for source in made.lineage.inputs] == ["dataset", "similarity", "analogy"]
    out = capsys.readouterr().out
    assert "over 4 of 5 whose words are known" in out and "too few known to say" in out
    report = json.loads((made.path / "report.json").read_text())
    assert set(report["nearest"]) == {"cat", "火"} and len(report["nearest"]["cat"]) == 8
    assert "<svg" in (made.path / "report.html").read_text()


def test_skipgram_is_the_method_when_none_is_named(folder):
    pytest.importorskip("gensim")
    made = danlu.vectors(folder / "data", out=folder / "skipgram", method={"dimensions": 8, "epochs": 2})
    assert made.lineage.settings["method"]["name"] == "skipgram" and made.lineage.metrics["words_trained"] > 0


def test_the_same_settings_give_the_same_vectors_and_a_finished_output_is_refused(folder):
    first, second = (WordVectors.open(glove(folder).path).vectors.tobytes() for _ in range(2))
    assert first == second
    with pytest.raises(OutputExists):
        danlu.vectors(folder / "data", out=folder / "vectors")
