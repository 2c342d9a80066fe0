"""Many small adapters over one base: trained by our loop, served in one batch, each answers as it would alone."""

import pytest
import torch
from tests.engine.test_engine_families import told
from tests.models.adapters.moved import gap
from tests.train.small import Text, small_run, token_set

from danlu.engine.adapters import read_adapter
from danlu.engine.engine import Engine
from danlu.engine.job import Job
from danlu.engine.model import Model
from danlu.engine.request import Sampling
from danlu.engine.runners import native
from danlu.engine.runners.packed import PackedRunner
from danlu.engine.scheduler import Limits
from danlu.models import MODELS
from danlu.models.adapters import ADAPTERS
from danlu.models.adapters.base import attach, load_adapter, save_adapter
from danlu.models.weights import load_model, save_model
from danlu.train.loop import train

PEOPLE = 10
PROMPT = tuple(range(2, 20))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, and ten people's adapters: each has seen four texts of its own letters."""
    place = tmp_path_factory.mktemp("people")
    for person in range(PEOPLE):
        letters = "abcdefghijklmno"[person : person + 4]
        documents = [Text(f"{person}-{at}", "made", "x", at, letters[at % 4 :] + letters * 8) for at in range(4)]
        rank, stable = 2 + person % 3, person % 2 == 1
        config = ADAPTERS["lora"].Config(rank=rank, alpha=8, rslora=stable)
        run = small_run(place / str(person), token_set(place / f"text{person}", documents), steps=8, rows=3, micro_rows=3,
                        prepare=lambda model, config=config, person=person: attach(model, config, seed=person))  # fmt: skip
        if person == 0:
            save_model(MODELS["qwen3"].tiny(), place / "base")
        for group in run.optimiser.param_groups:
            group["base_lr"] = 0.05
        train(run)
        save_adapter(run.parallel.model, place / f"adapter{person}", place / "base")
    return place


def alone(place, person, count):
    """The plain way, by the module itself with one adapter on it."""
    model = load_model(place / "base")
    if person is not None:
        load_adapter(model, place / f"adapter{person}")
    ids = list(PROMPT)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(PROMPT) :]


@pytest.mark.parametrize("kind", ["packed", "native"])
def test_ten_adapters_in_one_batch_answer_as_each_would_alone(kind, place):
    model = Model(load_model(place / "base"), None, place / "base")
    if kind == "native" and (why := native.unfit(model)) is not None:
        pytest.skip(why)
    adapters = {str(person): read_adapter(place / f"adapter{person}") for person in range(PEOPLE)}
    if kind == "native":
        runner = native.NativeRunner(model, "fp32", group=None, cache="fp32", blocks=64, adapters=adapters)
    else:
        runner = PackedRunner(model, 64, 4, adapters=adapters)
    wanted = [alone(place, person, 7) for person in (*range(PEOPLE), None)]
    assert len(set(map(tuple, wanted))) >= 6, "they have learned to say different things"
    greedy = Sampling(temperature=0, max_tokens=7, ignore_eos=True)
    names = [*adapters, None]
    with Engine(runner, runner.vocab_size, Limits(len(names), 256, len(names))) as engine:
        jobs = [Job(PROMPT, greedy, 7, frozenset(), adapter=name) for name in names]
        assert [ids for ids, _ in told(engine, jobs)] == wanted


def test_what_the_engine_adds_is_what_trained(place):
    """Logits of a batch of all ten, beside each adapter's own module."""
    import numpy as np

    from danlu.engine.work import Piece

    model = Model(load_model(place / "base"), None, place / "base")
    runner = PackedRunner(model, 128, 4, adapters={str(one): read_adapter(place / f"adapter{one}") for one in range(PEOPLE)})
    pieces = [
        Piece(person, np.array(PROMPT), 0, np.arange(person * 10, person * 10 + 10), len(PROMPT), str(person))
        for person in range(PEOPLE)
    ]
    for person, found in enumerate(runner.run(pieces)):
        own = load_model(place / "base")
        load_adapter(own, place / f"adapter{person}")
        with torch.inference_mode():
            assert gap(torch.from_numpy(found), own(torch.tensor([PROMPT]))[0]) < 1e-5
