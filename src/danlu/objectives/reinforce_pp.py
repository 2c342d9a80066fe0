"""REINFORCE++ (Hu et al. 2025, arXiv:2501.03262): rewards to go with a penalty at every token, whitened over the whole roll-out.

No value head and no comparison within a prompt: the mean over all prompts is the baseline, so one answer a prompt is enough. With
`baseline`, the paper's second form, the prompt's mean reward is taken off first.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from danlu.objectives import OBJECTIVES
from danlu.objectives.policy import Credit, Policy, Rolled, Told, bounds, surrogate


@OBJECTIVES.register
class ReinforcePp(Policy):
    """PPO's loss on rewards to go."""

    class Config(Policy.Config):
        name: Literal["reinforce_pp"] = "reinforce_pp"  # type: ignore[assignment]  # narrows
        kl: float = Field(0.01, ge=0)
        """What a nat of divergence from the model as it began costs at each token; 0: nothing."""
        baseline: bool = False
        """Whether the mean reward of the answers to the same prompt is taken off first (for several answers a prompt)."""

    @property
    def needs_old(self) -> bool:
        return self.pull > 0

    def credit(self, rolled: Rolled, state: Mapping[str, float]) -> Credit:
        rewards_A = rolled.rewards_A
        if self.config.baseline:
            rewards_A = (rewards_A.view(-1, rolled.group) - rewards_A.view(-1, rolled.group).mean(1, keepdim=True)).flatten()
        return Credit(whitened(to_go(token_rewards(rolled, rewards_A, self.pull), rolled)))

    def loss_terms(self, told: Told) -> Tensor:
        return (told.weights * surrogate(told.new, told.old, told.advantages, *bounds(self.config))).sum()


def token_rewards(rolled: Rolled, rewards_A: Tensor, pull: float) -> Tensor:
    """(M,): at every token what its divergence costs, at the last of an answer also its reward.

    >>> rolled = Rolled(1, torch.tensor([1.0]), torch.tensor([2]), torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, -3.0]))
    >>> token_rewards(rolled, rolled.rewards_A, pull=0.1)
    tensor([-0.0000, 0.8000])
    """
    found_M = torch.zeros(len(rolled.answers_M))
    if pull and rolled.old_M is not None and rolled.reference_M is not None:
        found_M = -pull * (rolled.old_M - rolled.reference_M)
    return found_M.index_add(0, rolled.last_A, rewards_A)


def to_go(rewards_M: Tensor, rolled: Rolled) -> Tensor:
    """The sum of the rewards of each token and those behind it in its answer.

    >>> to_go(torch.tensor([1.0, 2.0, 5.0]), Rolled(1, torch.zeros(2), torch.tensor([2, 1])))
    tensor([3., 2., 5.])
    """
    return torch.cat([part.flip(0).cumsum(0).flip(0) for part in rewards_M.split(rolled.lengths_A.tolist())])


def whitened(values_M: Tensor, keep_mean: bool = False) -> Tensor:
    """Deviation 1, and mean 0 unless it is kept; values that are all alike become 0.

    >>> whitened(torch.tensor([1.0, 3.0])), whitened(torch.tensor([2.0, 2.0]))
    (tensor([-1.,  1.]), tensor([0., 0.]))
    """
    mean = values_M.mean()
    found = (values_M - mean) / (values_M.var(correction=0) + 1e-8).sqrt()
    return found + mean if keep_mean else found
