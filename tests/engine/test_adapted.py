"""An adapter's folder opens with its base, and answers as base and adapter together do, however it is run."""

import json
import shutil

import pytest
import torch
from tests.engine.test_engine_families import told
from tests.models.adapters.moved import gap, moved
from tests.tiny import tiny_model, write_tiny

from danlu.core.errors import BadInput, NotAnArtifact
from danlu.engine.folder import model_input
from danlu.engine.heads import HeadedModel
from danlu.engine.job import Job
from danlu.engine.model import load
from danlu.engine.opening import Serving, open_engine
from danlu.engine.request import Sampling
from danlu.models.adapters.base import is_adapted, save_adapter
from danlu.models.heads import HeadConfig, attach
from danlu.models.weights import load_model

KINDS = {"lora": {}, "dora": {"rank": 3}, "int4": {"base": "int4", "group": 8}, "prompt": {"tokens": 5}, "prefix": {"tokens": 5}}
TEXT = "What the fire cannot take"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base with a record, and an adapter of every kind over it."""
    place = tmp_path_factory.mktemp("adapted")
    tiny_model(place / "base")
    for name, settings in KINDS.items():
        made(place, name, name if name in ("dora", "prompt", "prefix") else "lora", settings)
    return place


def made(place, name, kind, settings):
    spread = 0.5 if kind in ("prompt", "prefix") else 0.05
    model = moved(load_model(place / "base"), kind, spread, **settings)
    save_adapter(model, place / name, place / "base", model_input(place / "base").id)
    return model


def greedy(model, ids, count):
    """The plain way: the likeliest token after everything so far, read anew each time."""
    ids = list(ids)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[-count:]


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_answers_as_base_and_adapter_together(name, place, tmp_path):
    shutil.copytree(place / "base", tmp_path / "base")
    live = made(tmp_path, "again", name if name in ("dora", "prompt", "prefix") else "lora", KINDS[name])
    opened = load(place / name)
    soft = name in ("prompt", "prefix")
    ids = opened.encode(TEXT)
    assert gap(opened.logits([ids]), live(torch.tensor([ids])).detach()) < 1e-5
    assert is_adapted(opened.model) == soft and opened.context == load(place / "base").context - 5 * soft
    wanted = greedy(live, ids, 6)
    writing = opened.write(TEXT, Sampling(temperature=0, max_tokens=6, ignore_eos=True))
    assert list(writing) and writing.ids[-6:] == wanted
    settings = Serving(rows=2, cache_tokens=512)
    with open_engine(opened, settings) as engine:
        greed = Sampling(temperature=0, max_tokens=6, ignore_eos=True)
        jobs = [Job(tuple(ids), greed, 6, frozenset()), Job(tuple(ids[:9]), greed, 6, frozenset())]
        assert [found for found, _ in told(engine, jobs)] == [wanted, greedy(live, ids[:9], 6)]


def test_a_tasks_head_opens_with_its_adapter(tmp_path):
    write_tiny(tmp_path / "base", "bert")
    model = attach(load_model(tmp_path / "base"), HeadConfig(task="classify", labels=["hot", "cold"]), seed=2)
    save_adapter(moved(model), tmp_path / "a", tmp_path / "base")
    opened = load(tmp_path / "a")
    assert isinstance(opened, HeadedModel)
    (found,) = opened.classify(["iron in the fire"])
    again = HeadedModel(model.eval(), opened.tokenizer, tmp_path)
    assert found.probabilities == pytest.approx(again.classify(["iron in the fire"])[0].probabilities, abs=1e-5)
    assert set(found.probabilities) == {"hot", "cold"}


def test_a_folder_of_another_tool_finds_its_base_from_where_it_lies(place, tmp_path, monkeypatch):
    shutil.copytree(place / "lora", tmp_path / "theirs")
    shutil.copytree(place / "base", tmp_path / "moved")
    (tmp_path / "theirs" / "base.json").unlink()
    config = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    for said in ("../moved", "moved"):
        config["base_model_name_or_path"] = said
        (tmp_path / "theirs" / "adapter_config.json").write_text(json.dumps(config))
        monkeypatch.chdir(tmp_path)
        assert gap(load("theirs").logits([[1, 5, 9]]), load(place / "lora").logits([[1, 5, 9]])) < 1e-6


def test_a_base_that_is_gone_or_another_is_missed(place, tmp_path):
    for name in ("base", "lora"):
        shutil.copytree(place / name, tmp_path / name)
    said = json.loads((tmp_path / "lora" / "base.json").read_text())
    (tmp_path / "lora" / "base.json").write_text(json.dumps({**said, "path": str(tmp_path / "base")}))
    (tmp_path / "lora" / "adapter_config.json").write_text(
        (tmp_path / "lora" / "adapter_config.json").read_text().replace(str(place), str(tmp_path))
    )
    load(tmp_path / "lora")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(NotAnArtifact, match=r"its base is not there .*--base FOLDER"):
        load(tmp_path / "lora")
    tiny_model(tmp_path / "base", seed=5)
    with pytest.raises(BadInput, match=r"trained over the base \w+, and .* is now \w+.*--another"):
        load(tmp_path / "lora")


def test_an_adapter_given_for_a_model_says_what_it_is(place):
    from danlu.models.weights import read_config

    with pytest.raises(NotAnArtifact, match=r"It is an adapter: danlu merge"):
        read_config(place / "lora")
