"""A model that learns from its own answers: it learns, it repeats itself to the last bit, and nothing happens in silence."""

import copy
import json
from functools import cache

import numpy as np
import pytest
import torch
from tests.train.small_policy import documents, model, policy_run, prompt, sums, teach, tokenizer

from danlu.core import log
from danlu.core.errors import BadInput, BadSettings, DamagedArtifact, Interrupted
from danlu.core.labels import NO_LABEL
from danlu.models.adapters import ADAPTERS
from danlu.models.adapters.base import attach
from danlu.objectives import OBJECTIVES
from danlu.objectives.frame import Frame
from danlu.tokenizer.chat import CHATML, encode_chat
from danlu.train.culprit import find_culprit
from danlu.train.loop import train
from danlu.train.online import bare
from danlu.train.rollout import read_prompts
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import Tools, Watcher

FEW = [(0, b) for b in range(10)]
POLICIES = {"grpo": {"kl": 0.01}, "rloo": {"kl": 0.01}, "reinforce_pp": {"kl": 0.001}, "ppo": {"kl": 0.001}}


@cache
def taught():
    """Says the right figure, three times of four with a mark behind it that no reward likes."""
    return teach(model(width=48), 80, FEW, habit=0.75)


def run_of(folder, name="grpo", made=None, pairs=FEW, **more):
    return policy_run(folder, copy.deepcopy(made or taught()), name, pairs=pairs, **more)


class Hold(Watcher):
    """Asks to stop after a step."""

    def __init__(self, at):
        self.at = at

    def after_step(self, run, facts):
        run.stop.asked = facts.step == self.at


def weights(run):
    return {name: part.detach().clone() for name, part in run.parallel.model.state_dict().items()}


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_learns_what_is_rewarded(tmp_path, name):
    """From one right answer in four, and none of the likeliest, to nearly all: in 20 steps of 80 answers."""
    run = run_of(tmp_path, name, steps=20, heldout=FEW, rollouts={"prompts": 10, "answers": 8}, **POLICIES[name])
    before = run.batches.judge()
    train(run)
    first, last = run.batches.kept.load(0, run.world), run.batches.held
    assert before["reward"] <= 0.1 and (first is None or first.figures["reward"] < 0.4)
    assert run.batches.judge()["reward"] >= 0.9 and last.figures["reward"] > 0.8
    assert last.figures["engine_gap"] < 1e-5 and last.figures["kl"] > 0.05, "it has moved, and engine and trainer agree"


@pytest.mark.parametrize(("name", "more"), [
    ("ppo", {"value": "own", "rewards": "running", "kl": 0.1, "kl_target": 0.5}), ("grpo", {"kl": 0.02}),
])  # fmt: skip
def test_a_run_that_stopped_inside_a_roll_out_ends_with_the_same_bits(tmp_path, name, more):
    settings = {"steps": 9, "rollouts": {"minibatches": 2, "passes": 2}, **more}
    whole = run_of(tmp_path / "whole", name, **settings)
    train(whole)
    for at in (3, 5):
        cut = run_of(tmp_path / "cut", name, watchers=[Hold(at)], **settings)
        if saved := cut.checkpoints.latest():
            cut.restore(saved)
        with pytest.raises(Interrupted, match=f"after step {at} of 9"):
            train(cut)
    cut = run_of(tmp_path / "cut", name, **settings)
    cut.restore(cut.checkpoints.latest())
    train(cut)
    for key, part in weights(whole).items():
        assert torch.equal(weights(cut)[key], part), key
    assert cut.batches.held.state == whole.batches.held.state and cut.batches.totals(9) == whole.batches.totals(9)
    assert cut.batches.totals(9)["answers"] == 3 * 24


def test_roll_outs_are_kept_as_long_as_a_checkpoint_needs_them(tmp_path):
    run = run_of(
        tmp_path, steps=14, rollouts={"passes": 2}, watchers=[WATCHERS["save"](WATCHERS["save"].Config(every=2), Tools())]
    )
    train(run)
    kept = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert kept[-2:] == ["000006.jsonl", "000006.safetensors"] and "000000.jsonl" not in kept
    lines = [json.loads(line) for line in (tmp_path / "rollouts" / "000006.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and {"prompt", "text", "ended", "reward", "exact"} == set(lines[0])
    (tmp_path / "rollouts" / "000006.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DamagedArtifact, match="Remove it"):
        run_of(tmp_path, steps=14, rollouts={"passes": 2}).batches.rolled(6)


def test_a_batch_holds_the_answers_and_asks_for_nothing_else(tmp_path):
    run = run_of(tmp_path, "ppo", rollouts={"minibatches": 2}, micro_tokens=120, kl=0.1)
    seen = []
    for step in (0, 1):
        parts = run.batches.step(step)
        assert len(parts) > 1 and sum(float(one.weights.sum()) for one in parts) == pytest.approx(
            sum(one.target_count for one in parts)
        )
        for part in parts:
            for row in range(len(part.ids)):
                for answer, _, _ in part.origin[row].tolist():
                    here = part.answers[row] == answer
                    held = run.batches.held
                    written = held.ids_M[held.span(answer)]
                    assert part.targets[row][here].tolist() == written.tolist()
                    before = encode_chat(tokenizer(), CHATML, prompt(*FEW[held.prompt_A[answer]]))
                    first = int(here.nonzero()[0]) - len(before) + 1
                    whole = [*before, *written[:-1].tolist()]
                    assert part.ids[row, first : first + len(whole)].tolist() == whole
                    assert len(set(part.documents[row, first : first + len(whole)].tolist())) == 1
                    for name in ("drawn", "old", "reference", "values", "advantages", "returns"):
                        expected = getattr(held, f"{name}_M")[held.span(answer)]
                        assert getattr(part, name)[row][here].tolist() == pytest.approx(expected.tolist()), name
                    seen.append(answer)
            assert ((part.answers >= 0) == (part.targets != NO_LABEL)).all()
    assert sorted(seen) == list(range(24)), "each answer once a pass"
    np.testing.assert_allclose(held.old_M, held.drawn_M, atol=1e-5)
    np.testing.assert_allclose(held.reference_M, held.old_M, atol=1e-5)


def test_micro_batches_give_the_step_of_one_batch(tmp_path):
    grads = []
    for micro_tokens in (4096, 100):
        run = run_of(tmp_path / str(micro_tokens), "rloo", micro_tokens=micro_tokens)
        for part in run.batches.step(0):
            run.parallel.loss_sum(part).backward()
        grads.append(run.parallel.model.embedding.grad.clone())
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-5)


def test_without_its_adapter_the_model_is_its_own_reference(tmp_path):
    """The numbers are those of a frozen copy, and there is no second model."""
    adapted = copy.deepcopy(taught())
    attach(adapted, ADAPTERS["lora"].Config(rank=4), seed=1)
    for parameter in adapted.adapter.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    run = policy_run(tmp_path, adapted, "grpo", pairs=FEW, kl=0.1, rollouts={"answers": 2}, steps=4)
    held = run.batches.rolled(0)
    assert abs(held.reference_M - held.old_M).max() > 0.01
    with run.batches.reference() as other:
        assert other is adapted
    with torch.no_grad():
        parts = [run_of(tmp_path / "plain").batches._said(held, [(at, 1.0) for at in range(len(held))], {"values_M": False})]
    np.testing.assert_allclose(held.reference_M, parts[0][1]["old_M"], atol=1e-5)
    before = weights(run)
    train(run)
    assert all(torch.equal(part, before[name]) for name, part in weights(run).items() if not name.startswith("adapter."))


def test_a_value_head_is_no_part_of_the_model(tmp_path):
    run = run_of(tmp_path, "ppo", value="own")
    inner = bare(run.parallel.model)
    assert set(inner.state_dict()) == set(taught().state_dict())
    assert {name.partition(".")[0] for name in run.parallel.model.state_dict()} == {"body", "critic", "value"}
    assert not run.batches.rolled(0).values_M.any(), "before the first step everything is worth nothing"


def test_answers_that_ran_out_of_tokens_are_counted_and_can_be_masked(tmp_path):
    run = run_of(tmp_path, rollouts={"max_tokens": 2, "cut": "mask", "prompts": 8, "answers": 8})
    batch, held = run.batches.step(0)[0], run.batches.held
    assert 0.4 < held.figures["cut"] < 1 and held.totals["ran_out_of_tokens"] == (~held.ended_A).sum()
    for answer in range(len(held)):
        assert (batch.weights[batch.answers == answer] > 0).all() == held.ended_A[answer]


def test_prompts_that_teach_nothing_are_counted_and_can_be_replaced(tmp_path):
    never = [{"name": "exact", "case": True}]
    pairs = [(0, b) for b in range(3)] + [(b, 9) for b in range(1, 9)]  # of the latter it knows nothing
    plain = run_of(tmp_path / "plain", pairs=pairs, worth=never, rollouts={"prompts": 8})
    held = plain.batches.rolled(0)
    assert held.totals["prompts_that_teach_nothing"] == held.dull_P(4).sum() > 2 and not held.advantages_M.all()
    again = run_of(tmp_path / "again", pairs=pairs, worth=never, rollouts={"prompts": 8, "resample": 4})
    better = again.batches.rolled(0)
    assert better.dull_P(4).sum() < held.dull_P(4).sum() and better.totals["replaced"] > 0 and better.figures["rounds"] > 1
    assert len(better) == len(held) and len(better.ids_M) == better.lengths_A.sum() == len(better.drawn_M)
    for answer in range(len(better)):
        shown = tokenizer().decode([token for token in better.ids_M[better.span(answer)].tolist() if token > 2])
        assert shown == better.texts[answer]


def test_rewards_that_never_differ_are_told(tmp_path):
    watcher = WATCHERS["rollouts"](WATCHERS["rollouts"].Config(), Tools())
    heard = []

    class Ear:
        def event(self, kind, fields):
            heard.extend([fields["text"]] if kind == "warn" else [])

    with log.listening(Ear()):
        train(run_of(tmp_path, worth=[{"name": "regex", "pattern": "never"}], steps=5, watchers=[watcher]))
    assert len(heard) == 1 and "taught nothing" in heard[0]


def test_rewards_that_do_not_differ_move_nothing(tmp_path):
    run = run_of(tmp_path, worth=[{"name": "regex", "pattern": "never"}], steps=1)
    (batch,) = run.batches.step(0)
    run.parallel.loss_sum(batch).backward()
    assert run.batches.held.figures["dull"] == 1.0
    assert not run.parallel.model.embedding.grad.any()


def test_prompts_without_room_are_refused_or_counted():
    objective = OBJECTIVES.build(OBJECTIVES["grpo"].Config(), tokenizer())
    pairs = [*FEW, (10**30, 0)]
    with pytest.raises(BadInput, match=r"sums.jsonl:11.*tokens, and 50 leave room.*max_tokens"):
        read_prompts(documents(pairs), objective, Frame(tokenizer(), False, 50, False), "raise")
    found = read_prompts(documents(pairs), objective, Frame(tokenizer(), False, 50, False), "drop")
    assert found.ledger == {"samples": 11, "dropped": 1, "truncated": 0, "split": 0, "parts": 10} and len(found.truths) == 10
    with pytest.raises(BadSettings, match="raise or drop"):
        read_prompts(documents(pairs), objective, Frame(tokenizer(), False, 50, False), "truncate")


def test_what_cannot_work_is_refused_before_the_first_answer(tmp_path):
    with pytest.raises(BadSettings, match="rewards"):
        run_of(tmp_path, worth=())
    with pytest.raises(BadSettings, match="no room"):
        run_of(tmp_path, rollouts={"max_tokens": 64})
    with pytest.raises(BadSettings, match="known answer"):
        made = documents(FEW)
        made[3].sample["answer"] = ""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tests.train.small_policy.documents", lambda pairs: made)
            run_of(tmp_path)
    adapted = copy.deepcopy(taught())
    attach(adapted, ADAPTERS["lora"].Config(), seed=1)
    with pytest.raises(BadSettings, match="value shared"):
        policy_run(tmp_path, adapted, "ppo", value="own")


def test_the_order_of_prompts_is_one_of_the_seed_alone(tmp_path):
    batches = run_of(tmp_path, pairs=sums(3), rollouts={"prompts": 5}).batches
    stream = np.concatenate([batches.chosen(number) for number in range(7)])
    assert sorted(stream[:16]) == sorted(stream[16:32]) == list(range(16)) and stream[:16].tolist() != stream[16:32].tolist()
    assert batches.steps_per_epoch == pytest.approx(16 / 5)


def test_blame_names_the_prompt_of_an_answer(tmp_path):
    run = run_of(tmp_path)
    micro = run.batches.step(0)
    worst = 7
    for part in micro:
        part.advantages[part.answers == worst] = -1e6
    culprit = find_culprit(run.parallel, micro, run.batches.packer.tokens)
    assert culprit.document == worst and "sums.jsonl" in culprit.name and "answer 7 of roll-out 0" in culprit.name


def test_what_is_told_of_a_run(tmp_path):
    heard = []

    class Ear:
        def event(self, kind, fields):
            heard.append((kind, fields))

    watcher = WATCHERS["rollouts"](WATCHERS["rollouts"].Config(), Tools())
    with log.listening(Ear()):
        train(run_of(tmp_path, steps=4, heldout=FEW, watchers=[watcher], kl=0.01, rollouts={"passes": 2, "judge": 1, "shown": 3}))
    told = {kind: [fields for name, fields in heard if name == kind] for kind in ("rollout", "policy", "answer", "judged")}
    assert [one["step"] for one in told["rollout"]] == [0, 2] and len(told["answer"]) == 6
    assert [(one["step"], one["age"]) for one in told["policy"]] == [(1, 0), (2, 1), (3, 0), (4, 1)]
    assert [one["step"] for one in told["judged"]] == [0, 4] and told["judged"][0]["answers"] == 10
    assert {"reward", "reward_std", "reward_exact", "length", "stopped", "cut", "dull", "engine_gap", "kl"} <= set(
        told["rollout"][0]
    )
    assert {"entropy", "clipped", "moved", "stale", "kl"} <= set(told["policy"][0])
    assert told["policy"][0]["moved"] < 1e-6 < told["policy"][1]["moved"], "the second pass is off its own policy"
