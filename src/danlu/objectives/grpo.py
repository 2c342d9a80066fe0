"""Group relative policy optimisation (DeepSeekMath, arXiv:2402.03300, eq. 3): an answer is judged against its siblings.

With the repairs of Dr. GRPO (arXiv:2503.20783): --objective.share constant --objective.scale false; and of DAPO
(arXiv:2503.14476): --objective.share token --objective.clip_high 0.28 --rollouts.resample 3 --rollouts.cut mask.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from danlu.objectives import OBJECTIVES
from danlu.objectives.policy import Credit, Policy, Rolled, Share, Told, bounds, k3, surrogate

_LEAST = 1e-4
"""Added to a deviation, so that answers that differ by a hair are not blown up."""


@OBJECTIVES.register
class Grpo(Policy):
    """No value head: the mean reward of the other answers to the same prompt stands for it."""

    class Config(Policy.Config):
        name: Literal["grpo"] = "grpo"  # type: ignore[assignment]  # narrows
        share: Share = "sequence"
        """What a token counts: sequence, every answer the same; token, every token the same (DAPO); constant, every token the
        same part of max_tokens, so that long answers are not favoured (Dr. GRPO)."""
        scale: bool = True
        """Whether advantages are divided by the deviation of the rewards of their prompt; off: Dr. GRPO."""
        kl: float = Field(0.0, ge=0)
        """Pull towards the model as it began, by the divergence of each token; 0: none, and no reference model is computed."""

    @property
    def share(self) -> Share:
        share: Share = self.config.share
        return share

    def credit(self, rolled: Rolled, state: Mapping[str, float]) -> Credit:
        advantage_A = group_advantages(rolled.rewards_A, rolled.group, self.config.scale)
        return Credit(advantage_A[rolled.answers_M])

    def loss_terms(self, told: Told) -> Tensor:
        loss_N = surrogate(told.new, told.old, told.advantages, *bounds(self.config))
        if self.pull and told.reference is not None:
            loss_N = loss_N + self.pull * k3(told.new, told.reference)
        return (told.weights * loss_N).sum()


def group_advantages(rewards_A: Tensor, group: int, scale: bool = True) -> Tensor:
    """How much better each answer is than those to the same prompt on the mean; scaled: in their standard deviations.

    rewards_A: the `group` answers to a prompt side by side. Zeros where all are equal.
    Source: DeepSeekMath, section 4.1.2; the deviation is that of a sample, as in TRL.

    >>> group_advantages(torch.tensor([1.0, 0.0, 5.0, 5.0]), 2), group_advantages(torch.tensor([1.0, 0.0]), 2, scale=False)
    (tensor([ 0.7070, -0.7070,  0.0000,  0.0000]), tensor([ 0.5000, -0.5000]))
    """
    rewards_PG = rewards_A.view(-1, group)
    found_PG = rewards_PG - rewards_PG.mean(1, keepdim=True)
    if scale:
        found_PG = found_PG / (rewards_PG.std(1, keepdim=True) + _LEAST if group > 1 else torch.ones_like(found_PG))
    return found_PG.flatten()
