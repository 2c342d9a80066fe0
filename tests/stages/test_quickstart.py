"""Quickstart: the whole life of a small model from this Python's own text; what is made stays, what differs is refused."""

import shutil
import sysconfig
from pathlib import Path

import pytest

from danlu.core.artifact import open_artifact
from danlu.core.errors import BadInput, OutputExists
from danlu.stages import quickstart as stage

BUDGET = "20k tokens"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A standard library of a few modules, so that a test takes seconds."""
    folder = tmp_path_factory.mktemp("library")
    real = Path(sysconfig.get_path("stdlib"))
    for name in ("json", "email", "html", "collections", "importlib"):
        shutil.copytree(real / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "test").mkdir()
    (folder / "test" / "left_out.py").write_text("print('not part of the corpus')\n")
    return folder


@pytest.fixture
def small(library, monkeypatch):
    monkeypatch.setattr(stage.sysconfig, "get_path", lambda name: str(library))


def _settings(out, **more):
    return stage.Quickstart(out=out, budget=more.pop("budget", BUDGET), **more)


def test_the_whole_life_and_then_again(tmp_path, small, capsys):
    out = tmp_path / "life"
    report = stage.quickstart(_settings(out))
    assert report.kind == "report"
    kinds = {name: open_artifact(out / name, verify=True).kind for name in ("data", "model", "evaluation", "report")}
    assert kinds == {"data": "dataset", "model": "model", "evaluation": "report", "report": "report"}
    assert report.lineage.metrics["bits_per_byte"] > 0
    page = (out / "report" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page and "danlu chat" in page and "def read_lines" in page
    assert not list((out / "corpus" / "code").rglob("left_out.py"))
    ids = {name: open_artifact(out / name).id for name in ("data", "model")}
    stage.quickstart(_settings(out))
    assert {name: open_artifact(out / name).id for name in ("data", "model")} == ids, "what is finished is not made again"
    with pytest.raises(OutputExists, match="other settings"):
        stage.quickstart(_settings(out, seed=1))


def test_a_python_without_sources_is_said_so(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(stage.sysconfig, "get_path", lambda name: str(tmp_path / "empty"))
    with pytest.raises(BadInput, match="installed without them"):
        stage.write_corpus(tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists() and not list(tmp_path.glob(".corpus*"))
