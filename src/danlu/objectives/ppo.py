"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347) on answers to prompts, as in arXiv:1909.08593.

A value head foretells what an answer will be worth before each of its tokens; generalised advantage estimation (arXiv:1506.02438)
credits a token with how much better it went. The reward stands at an answer's last token; every token pays for its divergence
from the model as it began. An answer that ran out of tokens ends there.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from danlu.core.labels import NO_LABEL
from danlu.objectives import OBJECTIVES
from danlu.objectives.policy import Credit, Policy, Rolled, RolloutBatch, Told, bounds, surrogate
from danlu.objectives.reinforce_pp import token_rewards, whitened

_CHUNK = 512
"""Tokens whose distributions are in memory at once, for the entropy."""


@OBJECTIVES.register
class Ppo(Policy):
    """The only objective here with a model of what answers are worth, which must learn as well."""

    valued = True

    class Config(Policy.Config):
        name: Literal["ppo"] = "ppo"  # type: ignore[assignment]  # narrows
        value: Literal["shared", "own"] = "shared"
        """Where values are read: from the model's own last vectors, or from a second body that begins as a copy of it."""
        value_weight: float = Field(0.5, ge=0)
        """What the squared error of the values counts beside the policy's loss."""
        value_clip: float | None = Field(0.2, gt=0)
        """How far a value may move from the one at the roll-out before it stops learning; None: as far as it likes."""
        discount: float = Field(1.0, gt=0, le=1)
        """What a reward one token later is worth."""
        smoothing: float = Field(0.95, ge=0, le=1)
        """Lambda of generalised advantage estimation: 1 trusts rewards alone, 0 the values of the next token alone."""
        entropy: float = Field(0.0, ge=0)
        """What a nat of entropy is worth, so that the model goes on trying."""
        kl: float = Field(0.05, ge=0)
        """What a nat of divergence from the model as it began costs at each token, at first; 0: nothing."""
        kl_target: float | None = Field(None, gt=0)
        """Divergence of a whole answer, in nats, that the cost is steered to; None: the cost stays."""
        kl_horizon: int = Field(10_000, ge=1)
        """Answers over which the cost is steered."""
        rewards: Literal["as_they_are", "running", "whitened"] = "as_they_are"
        """Rewards divided by their deviation over all roll-outs so far (running), or whitened within each roll-out."""
        whiten: bool = True
        """Whether advantages are given mean 0 and deviation 1 over all tokens of a roll-out."""

    @property
    def needs_old(self) -> bool:
        return self.pull > 0

    def start(self) -> dict[str, float]:
        return {"kl": float(self.config.kl), "count": 0.0, "mean": 0.0, "spread": 0.0}

    def credit(self, rolled: Rolled, state: Mapping[str, float]) -> Credit:
        config, now = self.config, dict(state)
        rewards_A = rolled.rewards_A
        if config.rewards == "running":
            now |= running(state, rewards_A)
            rewards_A = rewards_A / max((now["spread"] / max(now["count"] - 1, 1)) ** 0.5, 1e-4)
        elif config.rewards == "whitened":
            rewards_A = whitened(rewards_A)
        assert rolled.values_M is not None
        rewards_M = token_rewards(rolled, rewards_A, now["kl"])
        advantages_M = gae(rewards_M, rolled.values_M, rolled.lengths_A, config.discount, config.smoothing)
        returns_M = advantages_M + rolled.values_M
        figures = {"value_explained": explained(rolled.values_M, returns_M)}
        if self.pull and rolled.old_M is not None and rolled.reference_M is not None:
            kl = float((rolled.old_M - rolled.reference_M).sum() / len(rewards_A))
            figures |= {"kl_cost": now["kl"], "kl_of_answer": kl}
            if config.kl_target is not None:
                now["kl"] = steered(now["kl"], kl, config.kl_target, len(rewards_A), config.kl_horizon)
        return Credit(whitened(advantages_M) if config.whiten else advantages_M, returns_M, figures, now)

    def loss_terms(self, told: Told) -> Tensor:
        return (told.weights * surrogate(told.new, told.old, told.advantages, *bounds(self.config))).sum()

    def more_loss(self, model: Any, told: Told, hidden_BTD: Tensor, batch: RolloutBatch) -> Tensor | None:
        chosen_BT = batch.targets != NO_LABEL
        values_N = model.values(hidden_BTD, batch.ids, batch.documents)[chosen_BT]
        assert told.values is not None and told.returns is not None
        error_N = value_loss(values_N, told.values, told.returns, self.config.value_clip)
        loss = self.config.value_weight * (told.weights * error_N).sum()
        if torch.is_grad_enabled():
            self.add({"value_loss": float(error_N.detach().sum())})
        if self.config.entropy:
            entropy_N = entropy(model, hidden_BTD[chosen_BT], self.temperature)
            loss = loss - self.config.entropy * (told.weights * entropy_N).sum()
        return loss


def gae(rewards_M: Tensor, values_M: Tensor, lengths_A: Tensor, discount: float, smoothing: float) -> Tensor:
    """Advantages (M,) of answers that lie one behind another (arXiv:1506.02438, eq. 16); behind an answer's end all is worth 0.

    >>> gae(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), torch.tensor([2]), discount=1.0, smoothing=0.5)
    tensor([0.2500, 0.5000])
    """
    lengths = lengths_A.tolist()
    if not lengths:
        return torch.zeros(0)
    rewards_AT, values_AT = (
        torch.nn.utils.rnn.pad_sequence(list(part.split(lengths)), batch_first=True) for part in (rewards_M, values_M)
    )
    next_AT = torch.cat([values_AT[:, 1:], values_AT.new_zeros(len(lengths), 1)], 1)  # filling is worth 0, as is the end
    error_AT = rewards_AT + discount * next_AT - values_AT
    found_AT, after_A = torch.empty_like(error_AT), error_AT.new_zeros(len(lengths))
    for at in range(error_AT.size(1) - 1, -1, -1):
        after_A = error_AT[:, at] + discount * smoothing * after_A
        found_AT[:, at] = after_A
    return torch.cat([row[:length] for row, length in zip(found_AT, lengths, strict=True)])


def value_loss(values: Tensor, before: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half the squared error of values; of a value that has moved far from what it was before, the larger of the two.

    >>> value_loss(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]), clip=0.2)
    tensor([0.3200, 0.5000])
    """
    error = (values - returns).square()
    if clip is not None:
        error = torch.maximum(error, (before + (values - before).clamp(-clip, clip) - returns).square())
    return 0.5 * error


def steered(cost: float, kl: float, target: float, answers: int, horizon: int) -> float:
    """The next cost of divergence: dearer while it is above its target (Ziegler et al., arXiv:1909.08593, section 2.2).

    >>> round(steered(0.1, kl=12.0, target=6.0, answers=100, horizon=1000), 4)
    0.102
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return cost * (1.0 + error * answers / horizon)


def running(state: Mapping[str, float], rewards_A: Tensor) -> dict[str, float]:
    """Count, mean and sum of squared deviations of all rewards so far (Chan et al. 1979).

    >>> one = running({"count": 0, "mean": 0, "spread": 0}, torch.tensor([1.0, 3.0]))
    >>> running(one, torch.tensor([5.0, 7.0]))
    {'count': 4.0, 'mean': 4.0, 'spread': 20.0}
    """
    count, new = float(state["count"]), float(len(rewards_A))
    values = rewards_A.double()
    gap = float(values.mean()) - state["mean"]
    total = count + new
    spread = state["spread"] + float((values - values.mean()).square().sum()) + gap * gap * count * new / total
    return {"count": total, "mean": state["mean"] + gap * new / total, "spread": spread}


def explained(values_M: Tensor, returns_M: Tensor) -> float:
    """The part of the returns' variance that the values foretold; below 0 they are worse than the mean."""
    spread = returns_M.var(correction=0)
    return float(1 - (returns_M - values_M).var(correction=0) / spread) if spread > 0 else 0.0


def entropy(model: Any, hidden_ND: Tensor, temperature: float) -> Tensor:
    """Entropy of the next token in nats, (N,), with a gradient; a few distributions at a time."""

    def part(hidden: Tensor) -> Tensor:
        log = (model.logits(hidden).float() / temperature).log_softmax(-1)
        return -(log.exp() * log).sum(-1)

    parts = [checkpoint(part, hidden, use_reentrant=False) for hidden in hidden_ND.split(_CHUNK)]
    return torch.cat(parts) if parts else hidden_ND.new_zeros(0)
