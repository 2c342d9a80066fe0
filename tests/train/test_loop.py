"""Laws of the loop: micro-batches do not change a step, a resumed run is the undisturbed run, the ledger adds up."""

import pytest
import torch
from tests.train.small import small_run, token_set, weights

from danlu.core import log
from danlu.core.errors import Interrupted
from danlu.train.loop import train
from danlu.train.watchers.base import Watcher


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens"))


class Notes(Watcher):
    """Keeps every step's facts; does something after one."""

    def __init__(self, at=0, act=None):
        self.facts, self.at, self.act = [], at, act

    def after_step(self, run, facts):
        self.facts.append(facts)
        if self.act and facts.step == self.at:
            self.act(run)


def trained(folder, tokens, notes=None, **changes):
    run = small_run(folder, tokens, watchers=[notes or Notes()], **changes)
    saved = run.checkpoints.latest()
    if saved:
        run.restore(saved)
    train(run)
    return run


def check_equal(found, expected):
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("micro_rows", [1, 2, 4])
def test_micro_batches_give_the_step_of_one_batch(tmp_path, tokens, micro_rows):
    whole, parts = Notes(), Notes()
    expected = weights(trained(tmp_path / "whole", tokens, whole, optimiser="sgd"))
    found = weights(trained(tmp_path / "parts", tokens, parts, optimiser="sgd", micro_rows=micro_rows))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert [f.loss for f in parts.facts] == pytest.approx([f.loss for f in whole.facts], rel=1e-5)


def test_micro_batches_with_unequal_labels_weigh_fairly(tmp_path, tokens):
    """The mean over a step's labels is no mean of the micro-batches' means."""
    grads = []
    for micro_rows in (6, 1):
        run = small_run(tmp_path / str(micro_rows), tokens, micro_rows=micro_rows)
        micro = run.batches.step(0)
        row = 0
        for batch in micro:
            for index in range(len(batch.ids)):
                batch.targets[index, : 2 * row] = -100
                row += 1
        count = sum(batch.target_count for batch in micro)
        assert count == 6 * 13 - 2 * (1 + 2 + 3 + 4 + 5)
        for batch in micro:
            (run.parallel.loss_sum(batch) / count).backward()
        grads.append(run.parallel.model.embedding.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimiser", ["adamw", "muon", "sgd"])
def test_a_resumed_run_ends_with_the_bits_of_an_undisturbed_run(tmp_path, tokens, optimiser):
    expected = trained(tmp_path / "whole", tokens, optimiser=optimiser)
    for at in (2, 5):
        with pytest.raises(Interrupted, match=f"stopped after step {at} of 7.*To go on"):
            trained(tmp_path / "cut", tokens, Notes(at, lambda run: setattr(run.stop, "asked", True)), optimiser=optimiser)
    found = trained(tmp_path / "cut", tokens, optimiser=optimiser)
    check_equal(weights(found), weights(expected))
    assert found.done.tokens == expected.done.tokens


def test_equal_seeds_agree_bit_by_bit_and_others_do_not(tmp_path, tokens):
    runs = [weights(trained(tmp_path / str(index), tokens, seed=seed)) for index, seed in enumerate((3, 3, 4))]
    check_equal(runs[0], runs[1])
    assert any(not torch.equal(runs[2][name], tensor) for name, tensor in runs[0].items())


def test_every_target_of_every_step_is_counted(tmp_path, tokens):
    run = trained(tmp_path, tokens)
    assert run.done.tokens == 7 * 6 * 13 and run.done.left_out_tokens == 0 and run.step == 7


def test_it_learns(tmp_path, tokens):
    notes = Notes()
    trained(tmp_path, tokens, notes, steps=30)
    assert notes.facts[-1].loss < 0.6 * notes.facts[0].loss


def test_the_rate_follows_the_schedule(tmp_path, tokens):
    notes = Notes()
    run = trained(tmp_path, tokens, notes)
    base = run.optimiser.param_groups[0]["base_lr"]
    assert [f.lr for f in notes.facts] == [base * run.schedule.factor(step, 7) for step in range(7)]


class Told(Watcher):
    """Held-out losses as a test wants them, one a step; the lowest so far is saved, as watchers/save.py does."""

    def __init__(self, *losses):
        self.losses, self.lowest = losses, {}

    def after_step(self, run, facts):
        run.done.heldout = {"step": facts.step, "tokens": run.done.tokens, "loss": self.losses[facts.step - 1]}
        if not run.done.best or run.done.heldout["loss"] <= run.done.best["loss"]:
            run.done.best, self.lowest = run.done.heldout, weights(run)
            run.save(wait=True)


RISING = (3.0, 2.0, 1.5, 1.6, 1.7, 1.6, 1.53)
"""Lowest after step 3, 2 % above that at the end."""


def settled(folder, tokens, keep, losses=RISING):
    run = small_run(folder, tokens, watchers=[Told(*losses)])
    run.weights = keep
    if saved := run.checkpoints.latest():
        run.restore(saved)
    with log.listening(log.JsonLines(folder / "events.jsonl")):
        train(run)
    return run, [event["text"] for event in log.read_events(folder / "events.jsonl") if event["kind"] == "warn"]


def test_a_text_learned_by_heart_leaves_the_weights_of_the_lowest_loss(tmp_path, tokens):
    run, (said,) = settled(tmp_path / "best", tokens, "best")
    third = run.watchers[0].lowest
    check_equal(weights(run), third)
    assert any(not torch.equal(part, third[name]) for name, part in weights(trained(tmp_path / "plain", tokens)).items())
    assert (run.step, run.done.taken, run.done.heldout["loss"]) == (7, 3, 1.5)
    assert "lowest at step 3 (1.5) and ended at 1.53" in said and "the weights of step 3, not the last" in said
    again, (_, later) = settled(tmp_path / "best", tokens, "best")  # killed before it was published
    assert later == said
    check_equal(weights(again), third)


def test_of_equal_lowest_losses_the_later_weights_stay(tmp_path, tokens):
    run, _ = settled(tmp_path, tokens, "best", (3.0, 2.0, 1.5, 1.7, 1.5, 1.6, 1.53))
    assert run.done.taken == run.done.best["step"] == 5
    check_equal(weights(run), run.watchers[0].lowest)


@pytest.mark.parametrize(("keep", "losses", "told"), [
    ("last", RISING, "the weights of the last step"),
    (None, RISING, None),
    ("best", (*RISING[:-1], 1.51), None),
    ("best", (9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0), None),
])  # fmt: skip
def test_else_the_last_weights_stay(tmp_path, tokens, keep, losses, told):
    run, said = settled(tmp_path / "run", tokens, keep, losses)
    check_equal(weights(run), weights(trained(tmp_path / "plain", tokens)))
    assert run.done.taken == 0 and run.done.heldout["loss"] == losses[-1]
    assert [told in one for one in said] == ([True] if told else [])
