"""Policy objectives against TRL on the same tensors, against plain double loops, and against numbers worked by hand."""

import math
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from danlu.core.errors import BadSettings
from danlu.objectives import OBJECTIVES
from danlu.objectives.policy import Rolled, Told, k3, sums, token_weights
from danlu.objectives.ppo import explained, gae, running, steered, value_loss
from tests.train.small_policy import tokenizer

LENGTHS = torch.tensor([3, 1, 7, 5, 2, 4])
GROUP, MOST = 2, 11
ANSWERS, TOKENS = len(LENGTHS), int(LENGTHS.sum())
REWARDS = torch.tensor([1.0, 0.0, 0.25, 0.25, -2.0, 3.0])


def built(name, **settings):
    return OBJECTIVES.build(OBJECTIVES[name].Config(**settings), tokenizer())


def draws(seed):
    random = torch.Generator().manual_seed(seed)
    return -3 * torch.rand(TOKENS, generator=random)


def rolled(**more):
    return Rolled(GROUP, REWARDS, LENGTHS, **more)


def told(objective, advantages, counted=None, reference=None, **more):
    new = draws(1).requires_grad_()
    answers = rolled().answers_M
    counted = torch.ones(ANSWERS, dtype=torch.bool) if counted is None else counted
    weights = token_weights(objective.share, LENGTHS, counted, MOST)[answers]
    return Told(new=new, weights=weights, advantages=advantages, answers=answers, drawn=draws(2), old=draws(2),
                reference=reference, **more)  # fmt: skip


def padded(values):
    return torch.nn.utils.rnn.pad_sequence(list(values.split(LENGTHS.tolist())), batch_first=True)


def mask():
    return padded(torch.ones(TOKENS))


def trl_side(objective, new_AT, counted=None, **arguments):
    """What TRL's own `_compute_loss` asks of its trainer and gets from the model."""
    low, high = objective.config.clip, objective.config.clip_high or objective.config.clip
    here = {name: (lambda part, **_: part) for name in ("reduce", "gather")}
    side = SimpleNamespace(
        loss_type={"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}[objective.share], beta=float(objective.config.kl),
        epsilon_low=low, epsilon_high=high, importance_sampling_level="token", top_entropy_quantile=1.0, use_vllm=False,
        off_policy_mask_threshold=None, aux_loss_enabled=False, max_completion_length=MOST, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1, accelerator=SimpleNamespace(num_processes=1, **here),
        model=MagicMock(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1), _metrics=MagicMock(),
    )  # fmt: skip
    side._get_per_token_logps_and_entropies = lambda *_, **__: (new_AT, torch.zeros_like(new_AT), None)
    shown = mask() if counted is None else mask() * counted[:, None]
    inputs = {
        "prompt_ids": torch.zeros(ANSWERS, 1), "prompt_mask": torch.ones(ANSWERS, 1), "completion_ids": torch.zeros_like(shown),
        "completion_mask": shown, "old_per_token_logps": padded(draws(2)), "num_items_in_batch": shown.sum(), **arguments,
    }  # fmt: skip
    return side, inputs


@pytest.mark.parametrize("share", ["sequence", "token", "constant"])
@pytest.mark.parametrize("more", [{}, {"kl": 0.3}, {"clip": 0.1, "clip_high": 0.28}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_grpo_is_trls_loss_and_gradient(share, more, masked):
    from trl import GRPOTrainer

    objective = built("grpo", share=share, **more)
    counted = torch.tensor([True, True, False, True, True, False]) if masked else None
    credit = objective.credit(rolled(), {})
    one = told(objective, credit.advantages_M, counted, draws(3))
    loss = objective.loss_terms(one) / TOKENS
    advantages_A = credit.advantages_M[rolled().last_A]
    new_AT = padded(one.new.detach()).requires_grad_()
    side, inputs = trl_side(objective, new_AT, counted, advantages=advantages_A, ref_per_token_logps=padded(draws(3)))
    expected = GRPOTrainer._compute_loss(side, None, inputs)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(one.new.grad, new_AT.grad[mask() > 0], rtol=1e-5, atol=1e-7)


def test_advantages_are_trls():
    """TRL's lines stand within a method of 500; they are said again here with its own deviation."""
    from trl.trainer.utils import nanstd

    grouped = REWARDS.view(-1, GROUP)
    centred = grouped - grouped.mean(1, keepdim=True)
    scaled = centred / (nanstd(grouped, dim=1)[:, None] + 1e-4)
    for scale, expected in ((True, scaled), (False, centred)):
        found = built("grpo", scale=scale).credit(rolled(), {}).advantages_M
        torch.testing.assert_close(found, expected.flatten()[rolled().answers_M])
        assert not found[(LENGTHS[:2].sum()) : LENGTHS[:4].sum()].any(), "equal rewards teach nothing"


@pytest.mark.parametrize("kl", [0.0, 0.2])
@pytest.mark.parametrize("whiten", [False, True])
def test_rloo_is_trls(kl, whiten):
    from trl import RLOOTrainer
    from trl.trainer.utils import nanstd

    objective = built("rloo", kl=kl, whiten=whiten)
    found = objective.credit(rolled(old_M=draws(2), reference_M=draws(3)), {}).advantages_M
    rewards = REWARDS - kl * ((padded(draws(2)) - padded(draws(3))) * mask()).sum(1)
    grouped = rewards.view(-1, GROUP)
    advantages_A = rewards - ((grouped.sum(1, keepdim=True) - grouped) / (GROUP - 1)).flatten()
    if whiten:
        advantages_A = (advantages_A - advantages_A.mean()) / (nanstd(advantages_A) + 1e-4)
    torch.testing.assert_close(found, advantages_A[rolled().answers_M])

    one = told(objective, found)
    loss = objective.loss_terms(one) / TOKENS
    new_AT = padded(one.new.detach()).requires_grad_()
    side, inputs = trl_side(objective, new_AT, advantages=advantages_A)
    inputs["old_logps"] = (inputs["old_per_token_logps"] * mask()).sum(1)
    expected = RLOOTrainer._compute_loss(side, None, inputs)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(one.new.grad, new_AT.grad[mask() > 0], rtol=1e-5, atol=1e-7)


def test_rloo_needs_siblings():
    with pytest.raises(BadSettings, match="answers 2"):
        built("rloo").credit(Rolled(1, REWARDS, LENGTHS), {})


@pytest.mark.parametrize("kl", [0.0, 0.1])
@pytest.mark.parametrize("baseline", [False, True])
def test_reinforce_pp_equals_a_plain_double_loop(kl, baseline):
    """Paper's eq. 4 and 5: A_t = r - kl * sum from t on of log(old / reference), then whitened over all tokens."""
    old, reference = draws(2), draws(3)
    expected, place = [], 0
    for answer, length in enumerate(LENGTHS.tolist()):
        reward = float(REWARDS[answer])
        if baseline:
            first = answer // GROUP * GROUP
            reward -= float(REWARDS[first : first + GROUP].mean())
        for token in range(length):
            paid = sum(float(old[place + at] - reference[place + at]) for at in range(token, length))
            expected.append(reward - kl * paid)
        place += length
    mean = sum(expected) / TOKENS
    deviation = math.sqrt(sum((one - mean) ** 2 for one in expected) / TOKENS)
    objective = built("reinforce_pp", kl=kl, baseline=baseline)
    found = objective.credit(rolled(old_M=old, reference_M=reference), {}).advantages_M
    torch.testing.assert_close(found, torch.tensor([(one - mean) / deviation for one in expected]), rtol=1e-4, atol=1e-5)


def advantages_by_hand(rewards, values, discount, smoothing):
    """Generalised advantage estimation as its definition has it: sum over l of (discount * smoothing)^l delta_(t + l)."""
    errors = [
        reward + discount * (values[at + 1] if at + 1 < len(values) else 0.0) - values[at] for at, reward in enumerate(rewards)
    ]
    return [
        sum((discount * smoothing) ** (at - first) * errors[at] for at in range(first, len(errors)))
        for first in range(len(errors))
    ]


@pytest.mark.parametrize(("discount", "smoothing"), [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_gae_equals_its_definition(discount, smoothing):
    rewards, values = draws(4), draws(5)
    expected = []
    for reward, value in zip(rewards.split(LENGTHS.tolist()), values.split(LENGTHS.tolist()), strict=True):
        expected += advantages_by_hand(reward.tolist(), value.tolist(), discount, smoothing)
    torch.testing.assert_close(gae(rewards, values, LENGTHS, discount, smoothing), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_gae_by_hand():
    """Values .5, .25, reward 1 at the end, discount .9, smoothing .8: delta_1 = 1 - .25, delta_0 = .9 * .25 - .5."""
    found = gae(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.25]), torch.tensor([2]), 0.9, 0.8)
    torch.testing.assert_close(found, torch.tensor([-0.275 + 0.72 * 0.75, 0.75]))


def test_with_full_smoothing_advantages_and_values_are_the_rewards_to_go():
    values = draws(5)
    objective = built("ppo", smoothing=1.0, whiten=False, kl=0.0)
    credit = objective.credit(rolled(values_M=values), objective.start())
    torch.testing.assert_close(credit.advantages_M + values, REWARDS[rolled().answers_M])
    torch.testing.assert_close(credit.returns_M, REWARDS[rolled().answers_M])


@pytest.mark.parametrize("clip", [None, 0.2])
def test_ppos_losses_equal_plain_loops(clip):
    """The formulas of CleanRL's ppo.py and OpenAI's Spinning Up, one token at a time."""
    objective = built("ppo", clip=0.2, kl=0.0)
    advantages, before, returns, values = draws(6) + 1.5, draws(7), draws(8), draws(9)
    one = told(objective, advantages)
    policy, value = 0.0, []
    for at in range(TOKENS):
        ratio = math.exp(float(one.new[at].detach() - one.old[at]))
        held = min(max(ratio, 0.8), 1.2)
        policy += max(-float(advantages[at]) * ratio, -float(advantages[at]) * held)
        errors = [(float(values[at]) - float(returns[at])) ** 2]
        if clip is not None:
            moved = min(max(float(values[at] - before[at]), -clip), clip)
            errors.append((float(before[at]) + moved - float(returns[at])) ** 2)
        value.append(0.5 * max(errors))
    assert float(objective.loss_terms(one).detach()) == pytest.approx(policy, rel=1e-5)
    torch.testing.assert_close(value_loss(values, before, returns, clip), torch.tensor(value), rtol=1e-5, atol=1e-6)


def test_what_ppo_remembers_from_roll_out_to_roll_out():
    objective = built("ppo", rewards="running", kl=0.1, kl_target=1.0, kl_horizon=60)
    old, reference = draws(2), draws(2) - 0.5  # 0.5 nats a token: 11 / 6 an answer, above the target
    state = objective.start()
    for number in (1, 2):
        state = objective.credit(rolled(old_M=old, reference_M=reference, values_M=draws(5)), state).state
        assert state["count"] == 6 * number and state["mean"] == pytest.approx(float(REWARDS.mean()), rel=1e-6)
        assert state["kl"] == pytest.approx(0.1 * (1 + 0.2 * 6 / 60) ** number)
    both = torch.cat([REWARDS, REWARDS])
    assert state["spread"] / 11 == pytest.approx(float(both.var()), rel=1e-6)
    assert steered(0.1, kl=0.0, target=6.0, answers=50, horizon=100) == pytest.approx(0.1 * (1 - 0.2 * 0.5))
    assert running({"count": 0, "mean": 0, "spread": 0}, REWARDS)["mean"] == pytest.approx(float(REWARDS.mean()))
    assert explained(draws(1), draws(1)) == 1.0 and explained(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0])) == 0.0


def test_what_tokens_count_adds_up():
    every = torch.ones(ANSWERS, dtype=torch.bool)
    some = torch.tensor([True, False, True, True, True, True])
    for share in ("sequence", "token"):
        assert float((token_weights(share, LENGTHS, every, MOST) * LENGTHS).sum()) == pytest.approx(TOKENS)
    weights = token_weights("token", LENGTHS, some, MOST)
    assert weights[1] == 0 and float((weights * LENGTHS).sum()) == pytest.approx(TOKENS)
    assert not token_weights("token", LENGTHS, ~every, MOST).any(), "none is left, and nothing is divided by none"
    assert float(token_weights("constant", LENGTHS, every, MOST)[0]) == pytest.approx(TOKENS / (ANSWERS * MOST))


def test_estimate_of_divergence_is_right_on_average():
    """Sum over all outcomes of p times the estimate is the divergence, to rounding."""
    log_p, log_q = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    expected = (log_p.exp() * (log_p - log_q)).sum()
    torch.testing.assert_close((log_p.exp() * k3(log_p, log_q)).sum(), expected)
    assert (k3(log_p, log_q) >= 0).all()


def test_sums_of_answers_that_lie_scattered():
    found, place = sums(torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([9, 3, 9, 5]))
    assert found.tolist() == [2.0, 8.0, 5.0] and place.tolist() == [2, 0, 2, 1]
