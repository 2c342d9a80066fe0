"""Simple preference optimisation (Meng et al. 2024, arXiv:2405.14734, equation 6): a mean log-probability as reward.

It is that of an answer's tokens. No reference model; answers that are long are not preferred for being long.
"""

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from danlu.core.settings import Named
from danlu.objectives import OBJECTIVES
from danlu.objectives.preference import Preference, Said


@OBJECTIVES.register
class Simpo(Preference):
    """Chosen answers become likelier a token than rejected ones, by a margin; no reference model."""

    class Config(Named):
        name: Literal["simpo"] = "simpo"  # type: ignore[assignment]  # narrows
        beta: float = Field(2.0, gt=0)
        """Scale of the reward."""
        margin: float = Field(1.0, ge=0)
        """By how much the chosen answer's reward should be the higher one (gamma of the paper, which advises half of beta)."""
        sft: float = Field(0.0, ge=0)
        """Weight of the chosen answer's negative log-likelihood a token, which keeps it from getting unlikely."""

    def losses(self, chosen: Said, rejected: Said) -> Tensor:
        found = simpo_losses(chosen.mean, rejected.mean, self.config.beta, self.config.margin)
        return found - self.config.sft * chosen.mean if self.config.sft else found

    def rewards(self, chosen: Said, rejected: Said) -> tuple[Tensor, Tensor]:
        return self.config.beta * chosen.mean, self.config.beta * rejected.mean


def simpo_losses(chosen_P: Tensor, rejected_P: Tensor, beta: float, margin: float) -> Tensor:
    """-log sigmoid(beta (chosen - rejected) - margin) of mean log-probabilities a token in nats, (P,) each.

    >>> import torch
    >>> simpo_losses(torch.tensor([-1.0]), torch.tensor([-2.0]), beta=2.0, margin=2.0)  # log 2
    tensor([0.6931])
    """
    return -F.logsigmoid(beta * (chosen_P - rejected_P) - margin)
