"""`danlu finetune` as a whole: every objective learns, a killed run ends the same, and bad input is refused in words."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import tiny_model

import danlu
from danlu.core.errors import BadInput, BadSettings, NotAnArtifact, UnsupportedModel
from danlu.stages.evaluate import Evaluate
from danlu.train import loop

WORDS = {"good": ["bright", "warm", "fine"], "bad": ["dull", "cold", "poor"]}
NAMES, PLACES = ["Ada", "Bo", "Cy"], ["Ely", "Fez", "Goa"]


def review(rng):
    label = rng.choice(["good", "bad"])
    return {"text": f"{rng.choice(['a', 'the'])} {rng.choice(WORDS[label])} day", "label": label}


def rating(rng):
    stars = rng.randint(1, 5)
    return {"text": "star " * stars + rng.choice("abc"), "label": stars}


def sentence(rng):
    words = [rng.choice(NAMES), "saw", rng.choice(PLACES), rng.choice(["too", "now"])]
    return {"tokens": words, "tags": ["B-PER", "O", "B-LOC", "O"]}


def question(rng):
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    context = f"{name} saw {place}"
    return rng.choice([{"question": "who?", "context": context, "answers": [name]},
                       {"question": "where?", "context": context, "answers": [place]}])  # fmt: skip


MAKERS = {"classify": (review, "labels"), "regress": (rating, "labels"), "tag": (sentence, "tags"),
          "extract": (question, "spans"), "contrast": (review, "labels")}  # fmt: skip
SETTINGS = {"batch": 16, "steps": 60, "optimiser": {"name": "adamw", "learning_rate": 6e-3}, "watch": {"save": {"every": 20}}}


def dataset(folder, objective, count=160):
    rng = random.Random(1)
    make, form = MAKERS[objective]
    rows = [make(rng) for _ in range(count)]
    path = folder / f"{objective}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return danlu.prepare(str(path), out=folder / objective, form=form, holdout=0.2, dedups=[], engine="sequential").path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    tiny_model(folder / "base", hidden_size=32, head_dim=8, intermediate_size=48, initializer_range=0.1)
    tiny_model(folder / "encoder", "modernbert", hidden_size=32, num_attention_heads=4, initializer_range=0.1)
    return folder


def figures(model):
    return model.lineage.metrics


@pytest.mark.parametrize(("objective", "figure", "least"), [
    ("classify", "accuracy", 0.9), ("regress", "pearson", 0.8), ("tag", "entity_f1", 0.9), ("extract", "exact_match", 0.6),
    ("contrast", "recall_at_1", 0.9),
])  # fmt: skip
def test_every_objective_learns(place, objective, figure, least):
    data = dataset(place, objective)
    made = danlu.finetune(place / "base", data, out=place / f"{objective}-model", objective=objective, **SETTINGS)
    assert figures(made)[figure]["value"] >= least
    assert figures(made)[figure]["low"] <= figures(made)[figure]["value"] <= figures(made)[figure]["high"]
    ledger = made.lineage.ledger
    assert ledger["training"]["served"] == 60 * 16
    assert ledger["train"]["samples"] == ledger["train"]["parts"] == danlu.data.shards.count(data)["documents"]
    assert [source.role for source in made.lineage.inputs] == ["model", "dataset"]
    assert "On " in (made.path / "report.html").read_text()
    report = danlu.evaluate(made.path, data=data, out=place / f"{objective}-report")
    assert report.lineage.metrics[made.path.name][figure]["value"] == pytest.approx(figures(made)[figure]["value"], abs=0.05)


def test_an_encoder_learns_too(place):
    data = place / "classify" if (place / "classify").exists() else dataset(place, "classify")
    made = danlu.finetune(place / "encoder", data, out=place / "encoder-model", **SETTINGS)
    assert figures(made)["accuracy"]["value"] >= 0.9
    assert danlu.load(made.path).classify("a warm day")[0].label == "good"


def test_a_killed_run_ends_with_the_same_weights(place, monkeypatch):
    data = place / "classify" if (place / "classify").exists() else dataset(place, "classify")
    settings = {**SETTINGS, "steps": 9, "watch": {"save": {"every": 2}}}
    straight = danlu.finetune(place / "base", data, out=place / "straight", **settings)

    def die(run):
        if run.step == 5:
            run.checkpoints.wait()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop, "_review", die)
        danlu.finetune(place / "base", data, out=place / "killed", **settings)
    assert not (place / "killed").exists()
    again = danlu.finetune(place / "base", data, out=place / "killed", **settings)
    one, two = (load_file(folder.path / "model.safetensors") for folder in (straight, again))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_finetuned_model_is_a_body_again(place):
    data = place / "classify" if (place / "classify").exists() else dataset(place, "classify")
    first = danlu.finetune(place / "base", data, out=place / "once", **{**SETTINGS, "steps": 2})
    second = danlu.finetune(first.path, data, out=place / "twice", **{**SETTINGS, "steps": 2})
    assert second.lineage.inputs[0].id == first.id


def test_what_cannot_be_learned_from_is_refused(place, tmp_path):
    data = place / "classify" if (place / "classify").exists() else dataset(place, "classify")
    with pytest.raises(BadSettings, match=r"learns from samples with words and tags, and .* holds label"):
        danlu.finetune(place / "base", data, out=tmp_path / "x", objective="tag")
    with pytest.raises(BadSettings, match=r"learns from plain text: that is `danlu pretrain`"):
        danlu.finetune(place / "base", data, out=tmp_path / "x", objective="causal")
    with pytest.raises(BadInput, match="is no number"):
        danlu.finetune(place / "base", data, out=tmp_path / "x", objective="regress")
    with pytest.raises(NotAnArtifact, match=r"no readable config\.json"):
        danlu.finetune(tmp_path, data, out=tmp_path / "x")
    (tmp_path / "plain.txt").write_text("only text, " * 40)
    plain = danlu.prepare(str(tmp_path / "plain.txt"), out=tmp_path / "plain", filters=[], engine="sequential").path
    with pytest.raises(BadSettings, match="no labels, only text"):
        danlu.finetune(place / "base", plain, out=tmp_path / "x")


def test_long_samples_stop_the_run_until_it_is_told_what_to_do(place, tmp_path):
    rows = [{"text": "word " * (3 + 20 * (at % 7 == 0)), "label": at % 2} for at in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = danlu.prepare(str(tmp_path / "rows.jsonl"), out=tmp_path / "data", form="labels", dedups=[], holdout=0.1,
                         engine="sequential").path  # fmt: skip
    with pytest.raises(BadInput, match=r"rows\.jsonl:\d+ .*sees 64 at once"):
        danlu.finetune(place / "base", data, out=tmp_path / "x", steps=2)
    made = danlu.finetune(place / "base", data, out=tmp_path / "x", steps=2, overlong="drop")  # other settings, at once
    assert made.lineage.ledger["train"]["dropped"] + made.lineage.ledger["validation"]["dropped"] == 6


def test_a_budget_of_tokens_sets_the_steps(place, tmp_path):
    data = place / "classify" if (place / "classify").exists() else dataset(place, "classify")
    made = danlu.finetune(place / "base", data, out=tmp_path / "x", budget="3k tokens", batch=16)
    assert 0.6 * 3000 <= made.lineage.metrics["tokens"] <= 1.1 * 3000


def test_labels_are_judged_or_texts_but_not_both(place, tmp_path):
    assert {"text", "data"} <= set(Evaluate.model_fields)
    with pytest.raises(BadSettings, match="give one of"):
        danlu.evaluate(place / "base", out=tmp_path / "x")
    data = place / "classify" if (place / "classify").exists() else dataset(place, "classify")
    with pytest.raises(BadSettings, match="predicts words"):
        danlu.evaluate(place / "base", data=data, out=tmp_path / "x")
    with pytest.raises(UnsupportedModel, match="in place of words"):
        danlu.generate(danlu.finetune(place / "base", data, out=tmp_path / "y", steps=2, batch=8).path, "once")
    assert np.isfinite(figures(danlu.finetune(place / "base", data, out=tmp_path / "z", steps=1, batch=8))["heldout_loss"])
