"""Answers beyond the context: the same as ever while everything is kept, and of any length afterwards."""

import numpy as np
import pytest
from tests.tiny import write_tiny

from danlu.core.errors import BadSettings
from danlu.engine.endless import EndlessDecoder, write_endless
from danlu.engine.model import load
from danlu.engine.request import Sampling


@pytest.fixture
def model(tmp_path):
    write_tiny(tmp_path / "model")
    return load(tmp_path / "model")


def test_while_the_window_holds_all_the_answer_is_the_usual_one(model):
    sampling = Sampling(max_tokens=20, temperature=0.9, seed=3)
    assert "".join(write_endless(model, "ab", sampling, window=40)) == model.generate(
        "ab", max_tokens=20, temperature=0.9, seed=3
    )


def test_prompt_and_answer_may_be_longer_than_the_context(model):
    writing = write_endless(model, "x" * 150, Sampling(max_tokens=90, temperature=0.9, seed=5), window=24)
    list(writing)
    assert model.context == 64 and writing.prompt_tokens > 150
    assert len(writing.ids) == 90 or writing.reason == "eos"


def test_memory_does_not_grow_with_the_answer(model):
    decoder = EndlessDecoder(model.model, window=24, sinks=2)
    ids, held = model.encode("tea"), set()
    for _ in range(100):
        decoder.read(np.array(ids))
        held.add(decoder._state.bytes)
    assert decoder.length == 100 * len(ids) and len(held) == 1


def test_what_cannot_be_is_refused_with_what_can(model):
    with pytest.raises(BadSettings, match=r"--window 90 --sinks 4: .* context, 64"):
        write_endless(model, "x", Sampling(), window=90)
    model.both_ways = True
    with pytest.raises(BadSettings, match="reads its prompt both ways"):
        write_endless(model, "x", Sampling(), window=9)
