"""Odds ratio preference optimisation (Hong et al. 2024, arXiv:2403.07691, equations 6 and 7).

Supervised fine-tuning with a penalty: one stage, no reference model. The likelihood of an answer is the geometric mean over its
tokens, as in the paper's first equation; so it is in the supervised part, which counts the chosen answer's tokens only.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from danlu.core.settings import Named
from danlu.objectives import OBJECTIVES
from danlu.objectives.preference import Preference, Said


@OBJECTIVES.register
class Orpo(Preference):
    """Chosen answers are learned, and their odds lifted above those of rejected ones; no reference model."""

    pace = 1.0

    class Config(Named):
        name: Literal["orpo"] = "orpo"  # type: ignore[assignment]  # narrows
        weight: float = Field(0.1, ge=0)
        """Weight of the odds ratio beside the negative log-likelihood of the chosen answer (lambda of the paper)."""

    def losses(self, chosen: Said, rejected: Said) -> Tensor:
        return self.config.weight * odds_losses(chosen.mean, rejected.mean) - chosen.mean

    def rewards(self, chosen: Said, rejected: Said) -> tuple[Tensor, Tensor]:
        return self.config.weight * chosen.mean, self.config.weight * rejected.mean


def odds_losses(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """-log sigmoid(log of the ratio of odds), given mean log-probabilities a token in nats, (P,) each, below 0.

    >>> odds_losses(torch.tensor([0.5]).log(), torch.tensor([0.2]).log())  # odds 1 and 1/4: -log(4 / 5)
    tensor([0.2231])
    """
    log_odds_P = (chosen_P - log_not(chosen_P)) - (rejected_P - log_not(rejected_P))
    return -F.logsigmoid(log_odds_P)


def log_not(logp: Tensor) -> Tensor:
    """log(1 - e^logp), exact at both ends: log1p where e^logp is small, expm1 where it is near 1 (Maechler 2012)."""
    logp = logp.clamp(max=-1e-7)  # a certain answer has infinite odds
    small = logp < -math.log(2)
    # each branch sees only numbers that it can take, or its gradient would be NaN in the other's place
    return torch.where(small, (-logp.where(small, logp.new_tensor(-1.0)).exp()).log1p(),
                       (-logp.where(~small, logp.new_tensor(-0.5)).expm1()).log())  # fmt: skip
