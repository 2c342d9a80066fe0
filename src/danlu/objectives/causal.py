"""Next-token prediction: the negative log-likelihood of each token given those before it in its document."""

from typing import Any, Literal

from torch import Tensor

from danlu.core.settings import Named
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch, Objective


@OBJECTIVES.register
class Causal(Objective):
    """What language models are pre-trained with."""

    kind = "CausalLM"
    family = "qwen3"

    class Config(Named):
        name: Literal["causal"] = "causal"  # type: ignore[assignment]  # narrows

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        return loss
