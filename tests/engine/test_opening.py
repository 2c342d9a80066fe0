"""Opening a model for many: what is asked for is what computes, guesses change nothing, and memory is given back."""

import pytest
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.core.errors import BadSettings
from danlu.engine.answer import Delta, answered
from danlu.engine.job import Job
from danlu.engine.model import load
from danlu.engine.native.matrix import library
from danlu.engine.opening import Serving, open_engine
from danlu.engine.request import Sampling

NATIVE = pytest.mark.skipif(library() is None, reason="the native runner needs a C compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny(folder, max_position_embeddings=128)
    return folder


def text(engine, model, prompt="abcabcabcab", room=40):
    job = Job(tuple(model.encode(prompt)), Sampling(temperature=0.2, seed=1), room, model.ends)
    return "".join(one.text for one in answered(engine, job, model.tokenizer) if isinstance(one, Delta))


@NATIVE
def test_guessing_changes_no_answer_whoever_guesses(folder):
    model = load(folder)
    texts = set()
    for settings in ({"guess": "off"}, {"guess": "auto"}, {"guess": "auto", "draft": folder}):
        with open_engine(model, Serving(rows=2, **settings)) as engine:
            texts.add(text(engine, model))
    assert len(texts) == 1


def test_a_draft_model_must_speak_the_same_tokens(folder, tmp_path):
    write_tiny(tmp_path / "other", vocab_size=260)
    tiny_tokenizer("<|more|>").save(tmp_path / "other")
    with pytest.raises(BadSettings, match="guesses in other tokens"):
        open_engine(load(folder), Serving(draft=tmp_path / "other"))


@NATIVE
def test_released_weights_are_gone_and_answers_stay(folder):
    kept, given = load(folder), load(folder)
    with open_engine(kept, Serving()) as engine:
        before = text(engine, kept)
    with open_engine(given, Serving(), release=True) as engine:
        assert text(engine, given) == before
    assert sum(part.untyped_storage().nbytes() for part in given.model.parameters()) < sum(
        part.untyped_storage().nbytes() for part in kept.model.parameters()
    )


def test_what_no_runner_can_do_is_said(folder):
    with pytest.raises(BadSettings, match="solo: it computes with the weights"):
        open_engine(load(folder), Serving(runner="solo", weights="int8"))
