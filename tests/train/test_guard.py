"""The guard: sick steps never reach the weights, the text to blame is named by file and line, decisions repeat."""

import json
import math

import pytest
import torch
from tests.train.small import small_run, texts, token_set, weights

from danlu.core import log
from danlu.core.errors import NotFinite
from danlu.objectives import OBJECTIVES
from danlu.train.culprit import find_culprit
from danlu.train.guard import Guard, GuardSettings
from danlu.train.loop import train
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import Tools

POISONED = 23


class Poison(OBJECTIVES["causal"]):
    """The causal loss, but a capital letter makes it NaN, as an overflow would."""

    def loss_sum(self, model, batch):
        loss = super().loss_sum(model, batch)
        return loss * math.nan if bool((batch.targets >= 17).any()) else loss


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens"), texts(poison=POISONED))


def events(folder, run):
    with log.listening(log.JsonLines(folder / "events.jsonl")):
        train(run)
    return [event for event in log.read_events(folder / "events.jsonl") if event["kind"] == "guard"]


def poisoned_steps(run, steps):
    """Steps whose rows hold the poisoned document."""
    return [s for s in range(steps) if any(POISONED in o[:, 0] for batch in run.batches.step(s) for o in batch.origin)]


def run_on(folder, tokens, action, **changes):
    settings = GuardSettings(action=action, **changes)
    objective = Poison(Poison.Config())
    return small_run(folder, tokens, steps=25, rows=2, micro_rows=1, guard=settings, objective=objective)


def test_a_poisoned_document_is_named_by_file_and_line_and_its_steps_are_skipped(tmp_path, poisoned):
    run = run_on(tmp_path, poisoned, "skip")
    expected = poisoned_steps(run, 25)
    assert expected, "the poison must come up at all"
    found = events(tmp_path, run)
    assert [event["step"] for event in found] == expected
    assert all(event["culprit"].startswith(f"file{POISONED % 3}.txt:{POISONED + 1} (document d{POISONED})") for event in found)
    assert all(math.isnan(event["culprit_loss"]) and event["action"] == "skip" for event in found)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(run).values())
    assert run.done.left_out_steps == len(expected)
    assert run.done.tokens + run.done.left_out_tokens == 25 * 2 * 13, "every target is trained on or left out"


def test_a_rollback_leaves_out_all_steps_since_the_checkpoint(tmp_path, poisoned):
    run = run_on(tmp_path, poisoned, "rollback")
    run.watchers = [WATCHERS.build(WATCHERS["save"].Config(every=4), Tools())]
    first = poisoned_steps(run, 25)[0]
    found = events(tmp_path, run)
    left_out = json.loads((tmp_path / "guard.json").read_text())
    since = first // 4 * 4
    assert found[0]["step"] == first and set(range(since, first + 1)) <= set(left_out)
    assert run.done.left_out_steps == len(left_out) and run.done.tokens + run.done.left_out_tokens == 25 * 2 * 13
    assert not set(poisoned_steps(run, 25)) - set(left_out)


def test_stop_ends_with_the_culprits_name(tmp_path, poisoned):
    with pytest.raises(NotFinite, match=rf"loss is nan.*file{POISONED % 3}.txt:{POISONED + 1} .*--guard.action skip"):
        train(run_on(tmp_path, poisoned, "stop"))


def test_off_trains_on_whatever_happens(tmp_path, poisoned):
    run = run_on(tmp_path, poisoned, "off")
    train(run)
    assert not all(bool(torch.isfinite(tensor).all()) for tensor in weights(run).values())


def test_a_model_that_stays_sick_stops_the_run(tmp_path, poisoned):
    class Broken(OBJECTIVES["causal"]):
        def loss_sum(self, model, batch):
            return super().loss_sum(model, batch) * math.inf

    run = small_run(tmp_path, poisoned, guard=GuardSettings(patience=3), objective=Broken(Broken.Config()))
    with pytest.raises(NotFinite, match="3 sick steps in a row"):
        train(run)
    assert run.done.left_out_steps == 2


def test_the_document_with_the_largest_loss_is_found_among_many(tmp_path, poisoned):
    """No NaN here: a document that the model finds far stranger than its neighbours."""
    run = small_run(tmp_path, poisoned, steps=60)
    run.guard.config = GuardSettings(action="off")
    steps = poisoned_steps(run, 60)
    train_on = [s for s in range(60) if s not in steps]
    run.guard.left_out = set(steps)
    train(run)
    assert len(train_on) > 20 and steps
    found = find_culprit(run.parallel, run.batches.step(steps[0]), poisoned)
    assert found.document == POISONED and math.isfinite(found.loss)


def steady(guard, steps=64):
    for step in range(steps):
        assert guard.judge(3.0 + 0.1 * math.sin(step), 1.0 + 0.05 * math.cos(step)) is None


def test_norms_that_stay_high_become_ordinary_while_infinite_ones_and_losses_stay_sick():
    """Of a masked run on Chinese: 0.67 on average until step 331, then these; left out for ever, they would never fall."""
    guard = Guard(GuardSettings(window=128))
    for step in range(128):
        assert guard.judge(7.3, 0.67 + 0.2 * math.sin(step)) is None
    verdicts = [guard.judge(7.3, norm) for norm in (4.29, 4.15, 5.16, 4.76, 3.83, 4.03, 3.43, 2.87, 2.64, 4.38)]
    assert verdicts[0] and verdicts[1] and verdicts[-5:] == [None] * 5
    assert all(guard.judge(7.3, math.inf) and guard.judge(20.0, 1.0) for _ in range(20))


def test_a_spike_is_beyond_k_deviations_of_the_last_steps():
    guard = Guard(GuardSettings(deviations=6, window=128))
    steady(guard)
    assert guard.judge(3.3, 1.0) is None, "three deviations are no spike"
    assert "loss 4 is above" in guard.judge(4.0, 1.0)
    assert "gradient norm" in guard.judge(3.0, 2.1)
    assert guard.judge(2.0, 0.1) is None, "a fall is welcome"


def test_a_calm_stretch_makes_no_spike_of_an_ordinary_gradient():
    guard = Guard(GuardSettings())
    for step in range(128):
        assert guard.judge(3.0, 0.44 + 0.01 * math.sin(step)) is None
    assert guard.judge(3.0, 0.74) is None, "40 deviations, and yet only 1.7 times the mean: of a quickstart"
    assert "gradient norm 0.9" in guard.judge(3.0, 0.9)


def test_spikes_count_only_once_there_is_a_past_and_do_not_become_it():
    guard = Guard(GuardSettings(window=8))
    assert [guard.judge(value, 1.0) for value in (9.0, 3.0, 3.1)] == [None] * 3
    assert guard.judge(math.inf, 1.0) == "loss is inf" and guard.judge(3.0, math.nan) == "gradient norm is nan"
    assert list(guard.losses) == [9.0, 3.0, 3.1]


def test_a_restored_guard_judges_the_same(tmp_path):
    guard, other = Guard(GuardSettings()), Guard(GuardSettings())
    steady(guard)
    other.restore(json.loads(json.dumps(guard.state())))
    assert other.judge(3.65, 1.0) == guard.judge(3.65, 1.0) and other.state() == guard.state()
