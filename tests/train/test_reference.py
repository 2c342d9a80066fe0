"""The reference model's numbers: what the model itself gives, computed once, kept whole, known by what they were made from."""

import contextlib

import numpy as np
import pytest
import torch
from tests.objectives.judged import built, encoded, judged_documents, pair_documents, write_chat_model

from danlu.core import log
from danlu.core.labels import NO_LABEL
from danlu.models.weights import load_model
from danlu.train import reference
from danlu.train.launch import World
from danlu.train.reference import add_reference
from danlu.train.samples import Samples, in_order


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_chat_model(tmp_path_factory.mktemp("reference"), noise=0.02)


def samples(name="dpo"):
    objective = built(name)
    parts = encoded(objective, judged_documents() if name == "kto" else pair_documents())
    return objective, {"train": Samples(parts[:4]), "validation": Samples(parts[4:])}


def add(found, objective, model, place, made_from=None, **more):
    more = {"row_tokens": 64, "micro_tokens": 90, **more}
    add_reference(found, objective, model, place, made_from or {"model": "a"}, World(), **more)


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_beside_each_target_stands_its_log_probability_and_other_numbers_stay(name, folder, tmp_path):
    model, (objective, found) = load_model(folder), samples(name)
    before = [one.values.copy() for one in found["train"].encoded]
    add(found, objective, model, tmp_path)
    for number, one in enumerate([*found["train"].encoded, *found["validation"].encoded]):
        for text in (0, 1):
            mine = one.documents == text
            ids, targets, values = (torch.from_numpy(part[mine]) for part in (one.ids, one.targets, one.values))
            asked = targets != NO_LABEL
            with torch.no_grad():
                wanted = model(ids[None])[0].log_softmax(-1).gather(1, targets.clamp(min=0)[:, None])[:, 0]
            torch.testing.assert_close(values[asked], wanted[asked], rtol=1e-4, atol=1e-4)
        if number < 4:
            silent = one.targets == NO_LABEL
            assert (one.values[silent] == before[number][silent]).all()


def test_it_is_computed_once_and_read_again_bit_for_bit(folder, tmp_path, monkeypatch):
    model = load_model(folder)
    objective, first = samples()
    add(first, objective, model, tmp_path)
    monkeypatch.setattr(reference, "score", None)  # whoever calls it now fails
    _, again = samples()
    add(again, objective, model, tmp_path)
    for split in first:
        for one, other in zip(first[split].encoded, again[split].encoded, strict=True):
            assert (one.values == other.values).all()


def test_numbers_of_another_model_other_samples_or_another_precision_are_not_taken(folder, tmp_path, monkeypatch):
    counted, score = [], reference.score
    monkeypatch.setattr(reference, "score", lambda *parts: counted.append(1) or score(*parts))
    model, (objective, found) = load_model(folder), samples()
    add(found, objective, model, tmp_path)
    assert len(counted) == 2  # one a split
    add(samples()[1], objective, model, tmp_path, {"model": "b"})
    fewer = {"train": samples()[1]["train"]}
    add(fewer, objective, model, tmp_path, {"model": "b"})
    add(fewer, objective, model, tmp_path, {"model": "b"}, dtype=torch.bfloat16)
    assert len(counted) == 2 + 2 + 1 + 1
    assert model.compute_dtype is None and not list(tmp_path.glob(".*partial"))


def test_a_damaged_file_is_told_and_made_again(folder, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(log, "warn", told.append)
    model, (objective, found) = load_model(folder), samples()
    add(found, objective, model, tmp_path)
    path = tmp_path / reference.NAME
    path.write_bytes(path.read_bytes()[:-7])
    _, again = samples()
    add(again, objective, model, tmp_path)
    assert len(told) == 1 and "computed again" in told[0]
    assert (again["train"].encoded[0].values == found["train"].encoded[0].values).all()


def test_the_model_is_asked_within_what_was_given_without_dropout_and_left_as_it_was(folder, tmp_path):
    seen = []

    @contextlib.contextmanager
    def switched_off():
        seen.append("in")
        yield
        seen.append("out")

    model, (objective, found) = load_model(folder).train(), samples()
    hidden = model.hidden

    def watched(*parts, **more):
        seen.append((model.training, torch.is_grad_enabled()))
        return hidden(*parts, **more)

    model.hidden = watched
    add(found, objective, model, tmp_path, around=switched_off())
    assert seen[0] == "in" and seen[-1] == "out" and set(seen[1:-1]) == {(False, False)} and model.training


def test_a_model_equals_its_own_reference(folder, tmp_path):
    """At the first step every log-ratio is zero: the loss is log 2 and no reward is above another."""
    model, (objective, found) = load_model(folder), samples()
    add(found, objective, model, tmp_path)
    (batch,) = in_order(found["train"], objective, 4, 100)
    with torch.no_grad():
        loss = float(objective.loss_sum(model, batch)) / batch.target_count
    assert loss == pytest.approx(np.log(2), abs=1e-5)
    assert objective.figures()["kl"] == pytest.approx(0, abs=1e-6)
