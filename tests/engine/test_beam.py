"""Beam search: transformers' ids and scores, the best of all answers where all can be looked at, and one beam is greedy."""

import itertools

import numpy as np
import pytest
import torch
from tests.engine.fake_runner import FakeRunner
from tests.engine.test_engine import engine_of
from tests.tiny import write_tiny

from danlu.core.errors import BadInput, PromptTooLong
from danlu.engine.beam import BeamsFailed, beam_search, best_of, engine_beams, write_beams
from danlu.engine.engine import Engine
from danlu.engine.job import Job
from danlu.engine.model import load
from danlu.engine.opening import Serving, choose_runner
from danlu.engine.request import Sampling
from danlu.engine.scheduler import Limits
from danlu.engine.source import source_ids


def tiny(folder, family="qwen3", seed=3, **changes):
    write_tiny(folder, family, seed=seed, **changes)
    return load(folder)


@pytest.mark.parametrize("settings", [
    {}, {"length_penalty": 0.0}, {"length_penalty": 2.0}, {"length_penalty": -1.0}, {"early_stopping": True},
    {"early_stopping": "never"}, {"early_stopping": "never", "length_penalty": 0.5},
])  # fmt: skip
@pytest.mark.parametrize(("family", "beams"), [("qwen3", 4), ("gpt2", 3)])
def test_ids_and_scores_are_transformers(tmp_path, family, beams, settings):
    transformers = pytest.importorskip("transformers")
    ours = tiny(tmp_path, family)
    ours.ends = frozenset(range(0, 259, 6))  # so that answers end at many places
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ended = 0
    for prompt in ("a 丹 b", "Once upon", "x", "9 + "):
        ids = ours.encode(prompt)
        expected = theirs.generate(
            torch.tensor([ids]), max_new_tokens=12, num_beams=beams, num_return_sequences=beams, do_sample=False,
            eos_token_id=sorted(ours.ends), pad_token_id=0, return_dict_in_generate=True, output_scores=True, **settings,
        )  # fmt: skip
        found = beam_search(ours, ids, beams, 12, **settings)
        assert len(found) == beams
        for beam, row, score in zip(found, expected.sequences, expected.sequences_scores, strict=True):
            row = row.tolist()[len(ids) :]
            assert list(beam.ids) == row[: len(beam.ids)] and set(row[len(beam.ids) :]) <= {0}  # filling
            assert beam.score == pytest.approx(float(score), rel=1e-4, abs=1e-5)
            ended += beam.ended
    assert ended or settings.get("length_penalty", 1) > 1  # the longest win then


def test_one_beam_is_greedy(tmp_path):
    model = tiny(tmp_path)
    writing = model.write("Once", Sampling(temperature=0, max_tokens=15))
    list(writing)
    (beam,) = write_beams(model, "Once", 1, 15)
    assert list(beam.ids) == writing.ids and beam.text(model.tokenizer) == model.generate("Once", temperature=0, max_tokens=15)


def test_as_many_beams_as_matter_find_the_likeliest_of_all_answers(tmp_path):
    model = tiny(tmp_path, initializer_range=0.1)
    ids = model.encode("ab")
    (best, *_) = beam_search(model, ids, 60, 2, length_penalty=0.0)
    logits = model.logits([ids])[0, -1].log_softmax(-1)
    likeliest = -np.inf
    for first in logits.argsort(descending=True)[:120].tolist():
        second = model.logits([[*ids, first]])[0, -1].log_softmax(-1)
        likeliest = max(likeliest, float(logits[first] + second.max()) if first not in model.ends else float(logits[first]))
    assert best.score == pytest.approx(likeliest, rel=1e-4)


@pytest.mark.parametrize("family", ["t5", "mamba2", "rwkv7", "bloom"])
def test_families_of_other_memories(tmp_path, family):
    model = tiny(tmp_path, family)
    beams = write_beams(model, "some text", 3, 6)
    assert len({beam.ids for beam in beams}) == 3
    assert [beam.score for beam in beams] == sorted((beam.score for beam in beams), reverse=True)
    for beam in beams:  # each score is what the model says of the whole at once
        start = model.model.config.decoder_start_token_id if family == "t5" else None
        begin = [model.tokenizer.start_id if start is None else start] if family == "t5" else model.encode("some text")
        source = [model.tokenizer.encode("some text")] if family == "t5" else None
        if family == "t5":
            source = [source_ids(model.tokenizer, "some text", model.context)]
        logits = model.logits([[*begin, *beam.ids]], source)[0].log_softmax(-1)
        steps = itertools.pairwise([*begin, *beam.ids])
        said = [float(logits[at, after]) for at, (_, after) in enumerate(steps)][len(begin) - 1 :]
        assert beam.score == pytest.approx(sum(said) / len(said), rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba2", "t5"])
def test_through_an_engine_the_same_answers_among_other_requests(tmp_path, family):
    model = tiny(tmp_path, family)
    model.ends = frozenset(range(0, 259, 50))
    ids, source = model.encode("a text to go on from, long enough for a block"), None
    if family == "t5":
        ids, source = [model.tokenizer.start_id], tuple(source_ids(model.tokenizer, "a text", model.context))
    expected = beam_search(model, ids, 3, 8, source=source)
    with Engine(choose_runner(model, Serving(rows=4, cache_tokens=2048), {}), 259, Limits(4, 64, 64)) as engine:
        other = engine.submit(Job(tuple(model.encode("another")), Sampling(), 40), lambda event: None)
        found = engine_beams(engine, Job(tuple(ids), Sampling(), 8, ends=model.ends, source=source), 3)
        assert engine_beams(engine, Job((5, 6), Sampling(), 8, source=source), 3, wanted=lambda: False) == []
        other.cancel()
    assert [beam.ids for beam in found] == [beam.ids for beam in expected]
    for one, two in zip(found, expected, strict=True):
        assert one.score == pytest.approx(two.score, rel=1e-4) and one.ended == two.ended


def test_a_fault_of_the_engine_ends_the_search():
    with engine_of(FakeRunner(poison=7)) as engine, pytest.raises(BeamsFailed, match="could not compute"):
        engine_beams(engine, Job((7, 5), Sampling(), 4), 2)


def test_what_cannot_be_searched_is_refused(tmp_path):
    model = tiny(tmp_path, max_position_embeddings=20)
    with pytest.raises(BadInput, match="beams"):
        write_beams(model, "a", 0)
    with pytest.raises(BadInput, match="beams"):
        write_beams(model, "a", 500)
    with pytest.raises(PromptTooLong):
        write_beams(model, "a" * 15, 2, 10)


def test_best_of_ranks_by_the_mean():
    assert best_of([[-2.0], [-1.0, -1.0], [], [-1.0]], 3) == [1, 3, 0]
