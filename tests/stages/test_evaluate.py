"""`danlu evaluate`: several models in one table, a report, lineage, and clear refusals."""

import json
import re

import pytest
from tests.tiny import tiny_model, write_tiny

from danlu.cli import main
from danlu.core.artifact import open_artifact

STORY = "The furnace 丹炉 was lit at dawn. & <b>By noon</b> the lead had melted.\n"


@pytest.fixture
def models(tmp_path):
    tiny_model(tmp_path / "one")
    write_tiny(tmp_path / "two", family="gpt2", seed=3)  # a folder of another tool: no lineage
    (tmp_path / "story.txt").write_text(STORY * 20, encoding="utf-8")
    return tmp_path


def test_two_models_in_one_table_and_report(models, capsys):
    words = ["evaluate", str(models / "one"), str(models / "two"), "--text", str(models / "story.txt"), "-o", str(models / "r")]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "one" in table and "two" in table and "bits per byte" in table and "95 % interval" in table
    report = open_artifact(models / "r", "report", verify=True)
    figures = json.loads((report.path / "report.json").read_text())
    assert [row["model"] for row in figures["models"]] == ["one", "two"]
    assert figures["models"][0]["bytes"] == len((STORY * 20).encode())
    assert figures["differences"][0]["difference"] == pytest.approx(
        figures["models"][0]["bits_per_byte"] - figures["models"][1]["bits_per_byte"]
    )
    assert report.lineage.metrics["models"][0]["bits_per_byte"] == figures["models"][0]["bits_per_byte"]
    assert [source.role for source in report.lineage.inputs] == ["model", "model", "text"]
    page = (report.path / "report.html").read_text()
    assert "&lt;" in page and "<b>By" not in page
    assert not re.search(r'src="|href="(?!#)', page)  # nothing is fetched from anywhere


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--text", "nothing.txt"], 1, "nothing.txt"),
        (["--text", "empty.txt"], 1, "empty"),
        ([], 2, "text: required"),
        (["--text", "story.txt", "--window", "1000"], 1, "context"),
        (["--text", "story.txt", "--strid", "3"], 2, "did you mean stride"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_leaves_nothing(models, words, code, said, capsys, monkeypatch):
    monkeypatch.chdir(models)
    (models / "empty.txt").touch()
    assert main(["evaluate", "one", "-o", "r", *words]) == code
    assert said in capsys.readouterr().err
    assert not [path for path in models.iterdir() if path.name.strip(".").startswith("r")]


def test_an_output_that_exists_is_refused_before_any_work(models, monkeypatch, capsys):
    monkeypatch.chdir(models)
    assert main(["evaluate", "missing", "--text", "story.txt", "-o", "one"]) == 2
    assert "--overwrite" in capsys.readouterr().err
