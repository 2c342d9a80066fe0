"""On-policy distillation: the student answers prompts, and at each token of its answers comes near to a teacher.

So it learns where it goes itself, its mistakes included, and not only where a teacher's text leads (Agarwal et al. 2023,
arXiv:2306.13649). No gradient goes through the drawing of answers. Rewards are not needed; those that are given are reported.
The paper's mixture with given answers is two runs here: distill on them first, then this.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.objectives.distill import Teacher, distillation_sum
from danlu.objectives.policy import Credit, Policy, Rolled, RolloutBatch, Told


@OBJECTIVES.register
class Gkd(Policy):
    """Generalised knowledge distillation on the student's own answers to prompts."""

    rewarded = False
    needs_teacher: ClassVar[bool] = True
    teacher: Teacher
    """Set before the first batch."""

    class Config(Named):
        name: Literal["gkd"] = "gkd"  # type: ignore[assignment]  # narrows
        beta: float = Field(0.5, ge=0, le=1)
        """Which divergence: 0 forward, KL(teacher || student); 1 reverse, KL(student || teacher), which keeps to what the teacher
        holds likely; between them generalised Jensen-Shannon."""
        temperature: float = Field(1.0, gt=0)
        """What both logits are divided by; that of the answers is --rollouts.temperature."""

    @property
    def pull(self) -> float:
        return 0.0

    def credit(self, rolled: Rolled, state: Mapping[str, float]) -> Credit:
        return Credit(torch.zeros(int(rolled.lengths_A.sum())))

    def loss_terms(self, told: Told) -> Tensor:
        raise AssertionError("gkd compares distributions, not drawn tokens")

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        assert isinstance(batch, RolloutBatch) and batch.weights is not None
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        weights_N = batch.weights[batch.targets != NO_LABEL]
        loss, apart, _ = distillation_sum(
            model, hidden_BTD, batch, self.teacher, self.config.beta, self.config.temperature, 0.0, weights_N
        )
        if torch.is_grad_enabled():
            self.add({"tokens": float(len(weights_N)), "divergence": apart})
        return loss
