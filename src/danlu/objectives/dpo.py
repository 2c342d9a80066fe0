"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, equation 7) and its variants.

Conservative, squared and hinge. The model's own reward of an answer is beta times the log-ratio to the reference model. Left out:
other divergences than the reverse KL.
"""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from danlu.core.settings import Named
from danlu.objectives import OBJECTIVES
from danlu.objectives.preference import Preference, Said

Variant = Literal["sigmoid", "ipo", "hinge"]


@OBJECTIVES.register
class Dpo(Preference):
    """Chosen answers become likelier than rejected ones, measured from the reference model."""

    reference = True

    class Config(Named):
        name: Literal["dpo"] = "dpo"  # type: ignore[assignment]  # narrows
        beta: float = Field(0.1, gt=0)
        """Pull towards the reference model; larger stays closer."""
        loss: Variant = "sigmoid"
        """What is made of the difference of the two log-ratios: sigmoid (DPO), ipo (a square, arXiv:2310.12036, of means over
        the answers' tokens), hinge (arXiv:2305.10425)."""
        label_smoothing: float = Field(0.0, ge=0, lt=0.5)
        """Part of the pairs that may be the wrong way round (conservative DPO); for the sigmoid."""
        sft: float = Field(0.0, ge=0)
        """Weight of the chosen answer's negative log-likelihood a token, which keeps it likely (arXiv:2404.19733)."""

        @model_validator(mode="after")
        def _smooth_only(self) -> Self:
            if self.label_smoothing and self.loss != "sigmoid":
                raise ValueError("label_smoothing goes with loss=sigmoid")
            return self

    def losses(self, chosen: Said, rejected: Said) -> Tensor:
        config = self.config
        if config.loss == "ipo":
            found = ipo_losses(chosen.ratio / chosen.tokens, rejected.ratio / rejected.tokens, config.beta)
        elif config.loss == "hinge":
            found = hinge_losses(chosen.ratio, rejected.ratio, config.beta)
        else:
            found = dpo_losses(chosen.ratio, rejected.ratio, config.beta, config.label_smoothing)
        return found - config.sft * chosen.mean if config.sft else found

    def rewards(self, chosen: Said, rejected: Said) -> tuple[Tensor, Tensor]:
        return self.config.beta * chosen.ratio, self.config.beta * rejected.ratio


def dpo_losses(chosen_P: Tensor, rejected_P: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(beta (chosen - rejected)) of log-ratios in nats, (P,) each; with smoothing e the mean of that with weight
    1 - e and of the reversed pair's with weight e (Mitchell 2023, "A note on DPO with noisy preferences").

    >>> dpo_losses(torch.tensor([0.0, 4.0]), torch.tensor([0.0, 1.0]), beta=0.5)  # log 2, and log(1 + e^-1.5)
    tensor([0.6931, 0.2014])
    """
    margin_P = beta * (chosen_P - rejected_P)
    kept_P = -F.logsigmoid(margin_P)
    return torch.lerp(kept_P, -F.logsigmoid(-margin_P), smoothing) if smoothing else kept_P


def ipo_losses(chosen_P: Tensor, rejected_P: Tensor, beta: float) -> Tensor:
    """(chosen - rejected - 1 / (2 beta))^2 (Azar et al. 2023, arXiv:2310.12036, equation 17, its tau called beta).

    The log-ratios are means over each answer's tokens: with sums the square would grow with the length. TRL does the same, and
    says that the authors confirmed it.

    >>> ipo_losses(torch.tensor([2.0]), torch.tensor([0.5]), beta=0.25)  # (1.5 - 2)^2
    tensor([0.2500])
    """
    return (chosen_P - rejected_P - 1 / (2 * beta)).square()


def hinge_losses(chosen_P: Tensor, rejected_P: Tensor, beta: float) -> Tensor:
    """max(0, 1 - beta (chosen - rejected)) of log-ratios (Zhao et al. 2023, arXiv:2305.10425).

    >>> hinge_losses(torch.tensor([2.0, 30.0]), torch.tensor([0.5, 0.0]), beta=0.1)
    tensor([0.8500, 0.0000])
    """
    return F.relu(1 - beta * (chosen_P - rejected_P))
