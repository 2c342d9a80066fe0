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
        ([], 2, "--needle.lengths"),
        (["--text", "story.txt", "--needle.lengths", "128"], 2, "give one of"),
        (["--needle.lengths", "20"], 1, "no room for the facts"),
        (["--needle.lengths", "128", "--needle.depths", "1.5"], 2, "between 0 and 1"),
        (["--needle.lengths", "128", "--needle.fact", "{code} is of {name}"], 2, "names {name} and then {code}"),
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


def test_facts_in_long_texts_make_a_table_and_a_heat_map(models, capsys):
    words = ["--needle.lengths", "300", "400", "--needle.trials", "2", "--needle.depths", "0", "1"]
    assert main(["evaluate", str(models / "one"), *words, "-o", str(models / "r")]) == 0
    assert "400 *" in capsys.readouterr().out, "beyond the context"
    report = open_artifact(models / "r", "report", verify=True)
    cells = report.lineage.metrics["needles"][0]["cells"]
    assert [(cell["tokens"], cell["depth"]) for cell in cells] == [(300, 0.0), (300, 1.0), (400, 0.0), (400, 1.0)]
    page = (report.path / "report.html").read_text()
    assert "<svg" in page and "depth of the fact" in page and not re.search(r'src="|href="(?!#)', page)


def test_a_family_with_a_fixed_number_of_positions_says_so(models, capsys):
    assert main(["evaluate", str(models / "two"), "--needle.lengths", "300", "-o", str(models / "r")]) == 1
    assert "Leave this length out" in capsys.readouterr().err
