"""`danlu evaluate --tasks`: models side by side with a verdict, a report with examples, lineage of every file, clear refusals."""

import json
import re

import pytest
from tests.evaluate import judged_model
from tests.evaluate.tasks import described_tasks

from danlu.cli import main
from danlu.core.artifact import open_artifact
from danlu.core.registry import shelves
from danlu.evaluate import paired, standing


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("judged")
    judged_model.write(root / "one")
    judged_model.write(root / "twin")
    judged_model.write(root / "other", seed=7)
    described_tasks.write(root)
    return root


@pytest.fixture(scope="module")
def report(place):
    models = [str(place / name) for name in ("one", "twin", "other")]
    tasks = [f"arithmetic,{place / 'choose.yaml'}", str(place / "write.yaml")]
    rest = ["--overlong", "truncate", "--limit", "20", "-o", str(place / "report")]
    assert main(["evaluate", *models, "--tasks", *tasks, *rest]) == 0
    return place / "report"


def test_two_identical_models_are_called_the_same_and_everything_is_written(report, place):
    found = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert list(found["tasks"]) == ["arithmetic", "choose", "write"]
    twins = [pair for pair in found["pairs"] if {pair["first"], pair["second"]} == {"one", "twin"}]
    assert [pair["verdict"] for pair in twins] == ["same"] * 3 and [pair["p"] for pair in twins] == [1] * 3
    assert found["samples"]["choose"]["one"] == found["samples"]["choose"]["twin"] != found["samples"]["choose"]["other"]
    one = found["tasks"]["choose"]["one"]
    assert one["figures"]["acc"]["low"] <= one["figures"]["acc"]["value"] <= one["figures"]["acc"]["high"]
    assert {"documents": 5, "asked": 5, "cut": 0, "skipped": 0}.items() <= one.items()
    assert set(found["circumstances"]["computed by"]) == {"one", "twin", "other"}


def test_the_page_shows_right_and_wrong_answers_and_every_pair(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    assert re.search(r"Right: \d+ of 5", page) and re.search(r"Wrong: \d+ of 5", page)
    assert "By noon the lead" in page and "judged together (Holm)" in page and "<svg" in page


def test_the_record_leads_to_models_tasks_and_data(report, place):
    artifact = open_artifact(report, "report", verify=True)
    roles = [(source.role, source.path.rsplit("/", 1)[-1]) for source in artifact.lineage.inputs]
    assert [role for role, _ in roles] == ["model"] * 3 + ["task"] * 4
    assert {name for role, name in roles if role == "task"} == {"choose.yaml", "questions.jsonl", "write.yaml", "sums.parquet"}
    assert artifact.lineage.metrics["tasks"]["choose"]["one"]["asked"] == 5


def test_the_number_of_rows_changes_no_figure(place):
    found = []
    for rows in ("1", "16"):
        out = place / f"rows{rows}"
        assert main(["evaluate", str(place / "one"), "--tasks", str(place / "choose.yaml"), str(place / "write.yaml"),
                     "--rows", rows, "-o", str(out)]) == 0  # fmt: skip
        found.append(json.loads((out / "report.json").read_text(encoding="utf-8")))
    if "exact" not in found[0]["circumstances"]["computed by"]["one"]:
        pytest.skip("no C compiler here, so no kernel that promises the last bit")
    assert found[0]["samples"] == found[1]["samples"] and found[0]["tasks"] == found[1]["tasks"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "arithmetics"], "arithmetic"),
        (["--tasks", "arithmetic", "--text", "x.txt"], "give one of --text"),
        (["--tasks", "arithmetic,arithmetic"], "called alike"),
        (["--tasks", "nowhere.yaml"], "No such file"),
        (["--data", "x", "--overlong", "skip"], "--overlong skip is for --tasks"),
        ([], "--tasks NAME..."),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(place, tmp_path, capsys, words, said):
    assert main(["evaluate", str(place / "one"), *words, "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_recipe_may_set_a_task(place, tmp_path):
    (tmp_path / "r.yaml").write_text(
        "tasks:\n- {name: arithmetic, questions: 3, shots: 1}\n- choose.yaml\noverlong: truncate\n", encoding="utf-8"
    )
    out = tmp_path / "out"
    (tmp_path / "choose.yaml").write_text((place / "choose.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    words = ["evaluate", str(place / "one"), "--recipe", str(tmp_path / "r.yaml"), "-o", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(words) == 0
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["tasks"]["arithmetic"]["one"]["documents"] == 3


def test_models_that_skipped_different_documents_compare_on_those_they_share():
    from danlu.core.errors import BadInput
    from danlu.evaluate.tasks.base import Result, Sample

    def result(model, values):
        samples = [Sample(document, "", "", "", bool(value)) for document, value in values.items()]
        return Result("t", [paired.of_values("acc", list(map(float, values.values())))], samples, {}, model=model)

    one, two = result("one", {0: 1, 1: 0, 2: 1}), result("two", {2: 0, 1: 0, 5: 1})
    (found,) = standing.pairs([one, two])
    assert found.documents == 2 and found.found.value.value == -0.5
    with pytest.raises(BadInput, match="no document both"):
        standing.pairs([one, result("three", {9: 1})])


def test_the_shelf_is_listed(capsys):
    assert set(shelves()["tasks"].names()) >= {"arithmetic", "form", "yaml"}
    assert main(["list", "tasks", "arithmetic"]) == 0 and "largest" in capsys.readouterr().out
