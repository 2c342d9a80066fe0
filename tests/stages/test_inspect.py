"""`danlu inspect`: everything about an artefact, back to the raw files, without torch."""

import json
import subprocess
import sys

import pytest
from tests.tiny import Made

from danlu.cli import main
from danlu.core.artifact import open_artifact, publish, work_folder
from danlu.core.lineage import raw_input
from danlu.core.log import JsonLines


@pytest.fixture
def chain(tmp_path):
    """Raw file -> dataset -> model."""
    raw = tmp_path / "raw [draft].txt"
    raw.write_text("丹炉\n")
    with publish(
        tmp_path / "data", kind="dataset", stage="prepare", settings=Made(family="x"), inputs=[raw_input("source", raw)]
    ) as d:
        (d.path / "train.txt").write_text("丹炉")
        (d.path / "README.md").write_text("# The card\n\nof this dataset")
        d.ledger = {"notes": {"read": 12345, "kept": 7}, "web": {"read": 11}}
        d.licences, d.seeds = ["CC0-1.0"], {"seed": 3}
    with publish(tmp_path / "model", kind="model", stage="pretrain", settings=Made(family="qwen3"),
                 inputs=[d.result.as_input("dataset")]) as draft:  # fmt: skip
        (draft.path / "config.json").write_text("{}")
        draft.metrics = {"loss": [0.5] * 50, "note": "n" * 999}
    return tmp_path


def shown(capsys, *words):
    assert main(["inspect", *map(str, words)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_dataset_shows_card_sizes_ledger_settings_and_licences(chain, capsys):
    text = shown(capsys, chain / "data")
    assert open_artifact(chain / "data").id in text
    for expected in ("dataset", "# The card", "train.txt", "6 B", "12,345", "family: x", "CC0-1.0", "seed 3", "danlu prepare"):
        assert expected in text


def test_the_tree_leads_back_to_the_raw_file(chain, capsys):
    text = shown(capsys, chain / "model")
    tree = text[text.index("lineage") :].replace(" ", "")
    assert tree.index("pretrain") < tree.index("prepare") < tree.index("raw[draft].txt")
    assert "38 more" in text and "(999 characters)" in text  # what is cut is said to be cut


def test_an_ancestor_that_was_made_again_is_said_to_be_lost(chain, capsys):
    with publish(chain / "data", kind="dataset", stage="prepare", settings=Made(family="x"), overwrite=True) as d:
        (d.path / "train.txt").write_text("other")
    assert "made again since" in shown(capsys, chain / "model")


def test_verify_rehashes_the_artefact_and_its_ancestors(chain, capsys):
    text = shown(capsys, chain / "model", "--verify")
    assert "verified model" in text and "verified dataset" in text and "verified source" in text
    (chain / "raw [draft].txt").write_text("炉丹\n")
    assert "CHANGED source" in shown(capsys, chain / "model", "--verify")
    (chain / "data" / "train.txt").write_text("炉丹")  # same size, other content
    assert main(["inspect", str(chain / "model"), "--verify"]) == 1
    assert "train.txt: content differs" in capsys.readouterr().err


def test_a_folder_of_raw_files_is_one_branch_and_verified_file_by_file(tmp_path, capsys):
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("one", "two"):
        (notes / f"{name}.txt").write_text(f"The {name} thing that we have to say is of the kind that was said before.\n")
    words = ["prepare", f"notes={notes}", "-o", str(tmp_path / "data"), "--engine", "sequential", "--dedups=[]"]
    assert main(words) == 0
    (notes / "two.txt").write_text("other")
    capsys.readouterr()
    text = shown(capsys, tmp_path / "data", "--verify")
    assert "2 files" in text and f"source notes: {notes}" in text.replace(" /", " /")
    assert "raw files of notes: 1 verified, 1 CHANGED" in text and f"CHANGED {notes / 'two.txt'}" in text


def test_a_run_that_is_not_finished_shows_its_progress(tmp_path, capsys):
    run = work_folder(tmp_path / "model")
    log = JsonLines(run / "events.jsonl")
    log.event("step", {"step": 7, "loss": 2.5})
    log.event("step", {"step": 8, "loss": 2.25})
    log.event("warn", {"text": "a spike [bold]"})
    log.close()
    (run / "checkpoints" / "step-000005").mkdir(parents=True)
    for path in (tmp_path / "model", run):
        text = shown(capsys, path)
        assert "loss: 2.25" in text and "2.5 " not in text and "step-000005" in text and "a spike [bold]" in text


@pytest.mark.parametrize(
    ("words", "code", "said"), [(["nothing"], 2, "no such folder"), (["."], 2, "lineage.json"), ([], 2, "artefact")]
)
def test_what_is_no_artefact_is_refused(tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", *words]) == code
    assert said in capsys.readouterr().err


def test_why_asks_datasets_only(chain, capsys):
    assert main(["inspect", str(chain / "model"), "--why", "x"]) == 2
    assert "is a model" in capsys.readouterr().err


def test_a_cut_record_is_said_to_be_damaged(chain, capsys):
    path = chain / "data" / "lineage.json"
    path.write_text(path.read_text()[:50])
    assert main(["inspect", str(chain / "data")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_no_torch_is_loaded(chain):
    code = f"import sys; from danlu.cli import main; main(['inspect', {str(chain / 'model')!r}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert json.loads((chain / "model" / "lineage.json").read_text())["kind"] == "model"
