"""Watchers see and tell; they change nothing that is learned."""

import json
import math

import numpy as np
import pytest
import torch
from tests.train.small import small_run, texts, token_set, weights

from danlu.core import log
from danlu.train.launch import World
from danlu.train.loop import train
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import Tools
from danlu.train.watchers.heldout import batches, choose, pack


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def heldout(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("heldout"), texts(11))


def build(name, tools=None, **settings):
    return WATCHERS.build(WATCHERS[name].Config(**settings), tools or Tools())


def events(folder, run, kind):
    with log.listening(log.JsonLines(folder / "events.jsonl")):
        train(run)
    return [event for event in log.read_events(folder / "events.jsonl") if event["kind"] == kind]


def test_being_watched_changes_no_bit(tmp_path, tokens, heldout):
    calm = small_run(tmp_path / "calm", tokens)
    train(calm)
    tools = Tools(heldout=heldout, generate=lambda prompt, tokens, seed: str(torch.rand(3)), prompts=("a", "b"))
    names = {
        "progress": {},
        "heldout": {"every": 2},
        "samples": {"times": 3},
        "save": {"every": 2},
        "profile": {"after": 2, "steps": 1},
    }
    watched = small_run(tmp_path / "watched", tokens, watchers=[build(name, tools, **given) for name, given in names.items()])
    train(watched)
    for name, tensor in weights(calm).items():
        assert torch.equal(weights(watched)[name], tensor), name


def test_progress_tells_every_so_many_steps_and_the_last(tmp_path, tokens):
    tools = Tools(flops_per_token=100.0, peak_flops=1e6)
    found = events(tmp_path, small_run(tmp_path, tokens, watchers=[build("progress", tools, every=3)]), "step")
    assert [event["step"] for event in found] == [3, 6, 7]
    assert [event["tokens"] for event in found] == [3 * 78, 6 * 78, 7 * 78]
    assert all(event["mfu"] == pytest.approx(event["tokens_per_s"] * 100 / 1e6) for event in found)


def test_heldout_scores_whole_documents_at_the_asked_times(tmp_path, tokens, heldout):
    watcher = build("heldout", Tools(heldout=heldout), every=3, tokens=60)
    found = events(tmp_path, small_run(tmp_path, tokens, watchers=[watcher]), "heldout")
    assert [event["step"] for event in found] == [3, 6, 7]
    assert all(event["documents"] < 11 and event["targets"] == found[0]["targets"] for event in found), "comparable"
    watcher = build("heldout", Tools(heldout=heldout))
    found = events(tmp_path / "all", small_run(tmp_path / "all", tokens, watchers=[watcher]), "heldout")
    assert found[-1]["documents"] == 11
    assert found[-1]["targets"] == heldout.tokens - 11, "every token but the ones that open documents"
    last = events(tmp_path / "last", run := small_run(tmp_path / "last", tokens, watchers=[watcher]), "heldout_final")
    assert len(last) == 1 and last[0]["targets"] == heldout.tokens - 11 and run.done.heldout["loss"] == last[0]["loss"]


def test_a_text_that_is_read_many_times_is_measured_after_its_first_passes(tmp_path, heldout):
    few = token_set(tmp_path / "few", texts(5))
    run = small_run(tmp_path, few, steps=33, watchers=[build("heldout", Tools(heldout=heldout), times=2)])
    each = run.batches.packer.pairs_per_epoch / 78
    assert 0.5 < each < 2  # steps of a pass
    passes = [math.ceil(number * each - 1e-9) for number in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)]
    found = [event["step"] for event in events(tmp_path, run, "heldout")]
    assert found == sorted({*(step for step in passes if step <= 33), 17, 33})


@pytest.mark.parametrize("row_tokens", [3, 13, 500])
def test_packing_for_evaluation_keeps_every_pair_and_labels_nothing_else(heldout, row_tokens):
    documents = np.array([1, 4, 5, 9])
    rows = list(pack(heldout, documents, row_tokens))
    assert all(len(part) == row_tokens for row in rows for part in (row.ids, row.targets, row.documents))
    targets = np.concatenate([row.targets for row in rows])
    expected = np.concatenate([heldout.document(d)[1:] for d in documents])
    assert targets[targets != -100].tolist() == expected.tolist()
    assert all((np.diff(row.documents) >= 0).all() and row.documents[0] == 0 for row in rows), "documents never go back in a row"


@pytest.mark.parametrize("size", [1, 2, 3])
def test_held_out_rows_are_shared_evenly_and_once(tmp_path, tokens, heldout, size):
    run, counts, targets = small_run(tmp_path, tokens, micro_rows=2), set(), 0
    for rank in range(size):
        run.parallel.world = World(rank=rank, size=size)
        mine = list(batches(run, pack(heldout, np.arange(6), 13)))
        counts.add(tuple(len(batch.ids) for batch in mine))
        targets += sum(batch.target_count for batch in mine)
    assert len(counts) == 1 and max(counts.pop()) == 2, "equally many rows in each process, or exchanges would hang"
    assert targets == sum(len(heldout.document(document)) - 1 for document in range(6))


def test_the_same_documents_are_chosen_each_time_and_a_larger_choice_holds_the_smaller(heldout):
    few, more, every = choose(heldout, 50), choose(heldout, 120), choose(heldout, 10**9)
    assert set(few) < set(more) < set(every) and len(every) == len(heldout)
    assert choose(heldout, 50).tolist() == few.tolist() and len(choose(heldout, 1)) == 1


def test_samples_come_with_prompt_and_step(tmp_path, tokens):
    tools = Tools(generate=lambda prompt, tokens, seed: f"{tokens} more", prompts=("from the data",))
    found = events(tmp_path, small_run(tmp_path, tokens, watchers=[build("samples", tools, times=3, tokens=5)]), "sample")
    assert [(event["step"], event["prompt"], event["text"]) for event in found] == [
        (step, "from the data", "5 more") for step in (3, 5, 7)
    ]
    own = build("samples", tools, times=1, prompts=["my own"])
    found = events(tmp_path / "own", small_run(tmp_path / "own", tokens, watchers=[own]), "sample")
    assert [event["prompt"] for event in found] == ["my own"]


def test_saving_follows_steps_records_and_the_end(tmp_path, tokens, heldout):
    watchers = [build("heldout", Tools(heldout=heldout), every=3), build("save", every=4)]
    run = small_run(tmp_path, tokens, watchers=watchers, keep=9)
    train(run)
    steps = {saved.step for saved in run.checkpoints.all()}
    assert {4, 7} <= steps <= {3, 4, 6, 7} and 3 in steps, "the first measurement is the best so far"
    assert run.checkpoints.best().facts["heldout_loss"] == run.done.best["loss"]


def test_a_profile_is_a_trace_and_a_table(tmp_path, tokens):
    train(small_run(tmp_path, tokens, watchers=[build("profile", after=2, steps=1)]))
    assert json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    assert "aten::" in (tmp_path / "profile" / "operations.txt").read_text()
