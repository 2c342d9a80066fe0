"""REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv:2402.14740): a whole answer is one action, judged by its siblings.

As TRL has it, the divergence from the reference is taken from the reward, and the ratio of a whole answer's probabilities is
clipped where a roll-out serves several steps.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from danlu.core.errors import BadSettings
from danlu.objectives import OBJECTIVES
from danlu.objectives.policy import Credit, Policy, Rolled, Share, Told, bounds, sums, surrogate

_LEAST = 1e-4


@OBJECTIVES.register
class Rloo(Policy):
    """Unbiased with a few answers a prompt, and nothing besides."""

    class Config(Policy.Config):
        name: Literal["rloo"] = "rloo"  # type: ignore[assignment]  # narrows
        kl: float = Field(0.05, ge=0)
        """What a nat of divergence from the model as it began costs, summed over an answer; 0: nothing."""
        whiten: bool = False
        """Whether advantages are given mean 0 and deviation 1 over all answers of a roll-out."""

    @property
    def share(self) -> Share:
        return "sequence"

    @property
    def needs_old(self) -> bool:
        return self.pull > 0

    def credit(self, rolled: Rolled, state: Mapping[str, float]) -> Credit:
        if rolled.group < 2:
            raise BadSettings("rloo judges an answer by the others to the same prompt: set --rollouts.answers 2 or more.")
        rewards_A = rolled.rewards_A
        if self.pull and rolled.old_M is not None and rolled.reference_M is not None:
            rewards_A = rewards_A - self.pull * sums(rolled.old_M - rolled.reference_M, rolled.answers_M)[0]
        advantage_A = leave_one_out(rewards_A, rolled.group)
        if self.config.whiten:
            advantage_A = (advantage_A - advantage_A.mean()) / (advantage_A.std() + _LEAST)
        return Credit(advantage_A[rolled.answers_M])

    def loss_terms(self, told: Told) -> Tensor:
        new_A, place_N = sums(told.new, told.answers)
        old_A, _ = sums(told.old, told.answers)
        weight_A, _ = sums(told.weights, told.answers)
        advantage_A = new_A.new_zeros(len(new_A)).index_copy(0, place_N, told.advantages)  # the same at each of its tokens
        return (weight_A * surrogate(new_A, old_A, advantage_A, *bounds(self.config))).sum()


def leave_one_out(rewards_A: Tensor, group: int) -> Tensor:
    """Each answer's reward less the mean of the others to the same prompt.

    >>> import torch
    >>> leave_one_out(torch.tensor([3.0, 0.0, 0.0, 1.0, 1.0, 1.0]), 3)
    tensor([ 3.0000, -1.5000, -1.5000,  0.0000,  0.0000,  0.0000])
    """
    rewards_PG = rewards_A.view(-1, group)
    others_PG = (rewards_PG.sum(1, keepdim=True) - rewards_PG) / (group - 1)
    return (rewards_PG - others_PG).flatten()
