"""The same task, the same model, the same numbers: ours beside lm-evaluation-harness driving transformers."""

import logging
import zlib

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


def theirs_of(model, tasks, place, driven="hf", **more):
    """What lm-eval finds; it drives transformers, our model, or a server. Its own tasks are not looked at: that takes long."""
    folder = {"hf": {"pretrained": str(model), "dtype": "float32"}, "danlu": {"path": str(model)}}
    args = more.pop("model_args", folder.get(driven))
    with pytest.MonkeyPatch.context() as patch:
        import datasets
        from lm_eval import evaluator
        from lm_eval.tasks import TaskManager

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / "cache")
        patch.setattr(evaluator, "add_env_info", lambda results: None)
        patch.setenv("OPENAI_API_KEY", "none")
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        told = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in tasks]
        return lm_eval.simple_evaluate(model=driven, model_args=args, tasks=told, device="cpu", batch_size=3, bootstrap_iters=0,
                                       task_manager=TaskManager(include_defaults=False), **more)  # fmt: skip


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


CHAT = ["choose", "continue", "write", "with_shots"]


@pytest.fixture(scope="module")
def theirs_in_chat(model, tasks, place):
    return theirs_of(model, [tasks[name] for name in CHAT], place, apply_chat_template=True)


@pytest.mark.parametrize("name", CHAT)
def test_through_the_chat_template_too(name, model, tasks, theirs_in_chat):
    compare(ours_of(model, tasks[name], chat=True, overlong="truncate"), theirs_in_chat, name)


def alike(one, other):
    """Two results of lm-eval: every figure, and what each document came to."""
    for name, figures in one["results"].items():
        numbers = {key: value for key, value in figures.items() if "," in key and "stderr" not in key}
        assert {key: other["results"][name][key] for key in numbers} == pytest.approx(numbers, rel=1e-5, abs=1e-6)
    for name, samples in one["samples"].items():
        for mine, theirs in zip(samples, other["samples"][name], strict=True):
            assert mine["doc_id"] == theirs["doc_id"]
            assert _flat(mine["resps"]) == pytest.approx(_flat(theirs["resps"]), abs=1e-4)


def _flat(value):
    """Numbers of answers in one row; texts, which must be equal, as whether they are."""
    if isinstance(value, list | tuple):
        return [part for one in value for part in _flat(one)]
    return [float(zlib.crc32(value.rstrip("\ufffd").encode()))] if isinstance(value, str) else [float(value)]


def test_lm_eval_drives_our_model_to_the_same_numbers(model, tasks, place, theirs):
    import danlu.evaluate.lm_eval  # noqa: F401  # registers it

    ours = theirs_of(model, tasks.values(), place, driven="danlu")
    alike(ours, theirs)


def test_lm_eval_drives_our_model_through_its_chat_template(model, tasks, place, theirs_in_chat):
    import danlu.evaluate.lm_eval  # noqa: F401  # registers it

    alike(theirs_of(model, [tasks[name] for name in CHAT], place, driven="danlu", apply_chat_template=True), theirs_in_chat)


@pytest.fixture(scope="module")
def served(model):
    from tests.server.running import made_service, serving

    from danlu.engine.opening import Serving
    from danlu.server.models import Served

    service = made_service(Served("judged", model), serving=Serving(weights="fp32", rows=4, cache_tokens=4096))
    with serving(service) as running:
        yield {"model": "judged", "base_url": f"{running.url}/v1/completions", "num_concurrent": 2, "max_retries": 1}


def part(theirs, names):
    return {kind: {name: theirs[kind][name] for name in names} for kind in ("results", "samples")}


def test_lm_evals_client_gets_the_same_numbers_from_our_server(model, tasks, place, theirs, served):
    names = ["choose", "schemas", "continue", "write"]
    args = {**served, "tokenizer": str(model), "max_length": 96, "tokenizer_backend": "huggingface"}
    found = theirs_of(model, [tasks[name] for name in names], place, "local-completions", model_args=args)
    alike(found, part(theirs, names))


def test_lm_evals_client_without_a_tokenizer_sends_texts_which_begin_as_documents_do(model, tasks, place, served):
    found = theirs_of(model, [tasks["write"]], place, "local-completions", model_args={**served, "tokenizer_backend": "none"})
    compare(ours_of(model, tasks["write"], begin="yes"), found, "write")


def test_lm_evals_client_for_conversations_gets_the_same_answers(model, tasks, place, theirs_in_chat, served):
    args = {**served, "base_url": served["base_url"].replace("/completions", "/chat/completions"), "num_concurrent": 1}
    found = theirs_of(model, [tasks["write"]], place, "local-chat-completions", model_args=args, apply_chat_template=True)
    alike(found, part(theirs_in_chat, ["write"]))
