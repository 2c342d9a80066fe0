"""Distillation on given answers: the student's next-token distributions come near to a teacher's.

Source: Hinton et al. 2015 (arXiv:1503.02531). Forward and reverse divergence, and what lies between them, per token (Agarwal et
al. 2023, arXiv:2306.13649); nn/divergence.py says which. The teacher's numbers come from memory or disk (train/teacher.py),
handed in by the stage. As in the second paper and in TRL the loss is not multiplied by the square of the temperature. N places
that ask for something, I of them at a time.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.nn.divergence import Wanted, divergence, linear_loss_sum
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.objectives.sft import Sft


class Teacher(Protocol):
    """What gives the distributions to come near to."""

    def on(self, batch: Batch) -> Callable[[slice], Wanted]:
        """What it gives to some of the batch's places that ask for something, in row order, at the objective's temperature."""


@OBJECTIVES.register
class Distill(Sft):
    """Conversations as for sft; beside each token stands all that the teacher holds likely there."""

    stage = "align"

    needs_teacher: ClassVar[bool] = True
    teacher: Teacher
    """Set before the first batch."""

    class Config(Sft.Config):
        name: Literal["distill"] = "distill"  # type: ignore[assignment]  # narrows
        beta: float = Field(0.0, ge=0, le=1)
        """Which divergence: 0 forward, KL(teacher || student), which covers all that the teacher holds possible; 1 reverse,
        KL(student || teacher), which keeps to what it holds likely; between them generalised Jensen-Shannon."""
        temperature: float = Field(1.0, gt=0)
        """What both logits are divided by: higher makes unlikely tokens count more."""
        sft: float = Field(0.0, ge=0, le=1)
        """Share of the loss that is the negative log-likelihood of the given answers, as for sft; the rest is the divergence."""

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        loss, apart, surprise = distillation_sum(
            model, hidden_BTD, batch, self.teacher, self.config.beta, self.config.temperature, self.config.sft
        )
        if not torch.is_grad_enabled():
            self._figures = {"divergence": apart, "nll": surprise}
        return loss


def distillation_sum(
    model: Any, hidden_BTD: Tensor, batch: Batch, teacher: Teacher, beta: float, temperature: float, sft: float,
    weights_N: Tensor | None = None,
) -> tuple[Tensor, float, float]:  # fmt: skip
    """Sum over the batch's targets of (1 - sft) divergence + sft negative log-likelihood, each weighed; and, without weights and
    gradient, the sums of both parts. The negative log-likelihood is 0 where gradients are on and nobody asks for it."""
    chosen_BT = batch.targets != NO_LABEL
    targets_N, wanted = batch.targets[chosen_BT], teacher.on(batch)
    x_ND, how = model.to_head(hidden_BTD[chosen_BT])
    sums = [0.0, 0.0]
    silent = torch.is_grad_enabled() and not sft

    def loss(logits_IV: Tensor, rows: slice) -> Tensor:
        found = wanted(rows)
        known = logits_IV if found.ids is not None else logits_IV[:, : found.logp.size(1)]  # rows beyond are padding
        apart_I = divergence(known, found, beta, temperature)
        nll_I = torch.zeros_like(apart_I) if silent else F.cross_entropy(known, targets_N[rows], reduction="none")
        sums[0] += float(apart_I.detach().sum())
        sums[1] += float(nll_I.detach().sum())
        each_I = (1 - sft) * apart_I + sft * nll_I if sft else apart_I
        return (each_I if weights_N is None else each_I * weights_N[rows]).sum()

    return linear_loss_sum(x_ND, model.output_weight, loss, **how), sums[0], sums[1]
