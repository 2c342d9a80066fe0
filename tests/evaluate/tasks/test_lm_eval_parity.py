"""The same task, the same model, the same numbers: ours beside lm-evaluation-harness driving transformers."""

import logging

import pytest
import yaml
from tests.evaluate import judged_model
from tests.evaluate.tasks import described_tasks

from danlu.engine.model import load
from danlu.evaluate.how import How
from danlu.evaluate.subject import Subject
from danlu.evaluate.tasks import TASKS

lm_eval = pytest.importorskip("lm_eval")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def tasks(place):
    return described_tasks.write(place)


@pytest.fixture(scope="module")
def model(place):
    return judged_model.write(place / "model")


def theirs_of(model, tasks, place, **more):
    with pytest.MonkeyPatch.context() as patch:
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        told = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in tasks]
        return lm_eval.simple_evaluate(
            model="hf", model_args={"pretrained": str(model), "dtype": "float32"}, tasks=told, device="cpu", batch_size=3,
            bootstrap_iters=0, **more,
        )  # fmt: skip


@pytest.fixture(scope="module")
def theirs(model, tasks, place):
    return theirs_of(model, tasks.values(), place)


def ours_of(model, path, **how):
    task = TASKS.build(TASKS["yaml"].Config(path=path))
    with Subject(load(model)) as subject:
        return task.ask(subject, How(**how))


def compare(ours, theirs, name):
    """Figures to rounding, and every log-likelihood or answer of every document."""
    figures = {key: value for key, value in theirs["results"][name].items() if "," in key and "stderr" not in key}
    mine = {figure.name if "," in figure.name else f"{figure.name},none": figure.value for figure in ours.figures}
    assert mine.keys() == figures.keys()
    for key, value in figures.items():
        assert mine[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    samples = sorted(theirs["samples"][name], key=lambda sample: (sample["doc_id"], sample["filter"]))
    by_document = {sample["doc_id"]: sample["resps"] for sample in samples}
    assert [sample.document for sample in ours.samples] == sorted(by_document)
    for sample in ours.samples:
        answers = by_document[sample.document]
        if ours.about["output_type"] == "generate_until":
            said = sample.said.split("   <- ")[-1]
            assert said.rstrip("\ufffd") == answers[0][0].rstrip("\ufffd")  # we leave half a character at an answer's end out
        else:
            nats = [one[0] if isinstance(one, tuple) else one for (one,) in answers][: len(sample.nats)]
            assert sample.nats == pytest.approx(nats, abs=1e-4)


@pytest.mark.parametrize("name", ["choose", "with_shots", "own_shots", "first_shots", "schemas", "yes_no", "continue", "whole",
                                  "write", "extract"])  # fmt: skip
def test_figures_and_every_document_are_lm_evals(name, model, tasks, theirs):
    compare(ours_of(model, tasks[name], overlong="truncate"), theirs, name)


def test_through_the_chat_template_too(model, tasks, place):
    names = ["choose", "continue", "write", "with_shots"]
    theirs = theirs_of(model, [tasks[name] for name in names], place, apply_chat_template=True)
    for name in names:
        compare(ours_of(model, tasks[name], chat=True, overlong="truncate"), theirs, name)
