"""AdamW: adaptive steps with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch.nn import Parameter

from danlu.core.settings import Named
from danlu.train.optimisers import OPTIMISERS
from danlu.train.optimisers.roles import decaying, roles
from danlu.train.optimisers.tables import decay_rows


@OPTIMISERS.register
class AdamW(torch.optim.AdamW):
    """PyTorch's fused AdamW; matrices decay, tables and vectors do not."""

    class Config(Named):
        """Rates and memory of AdamW."""

        name: Literal["adamw"] = "adamw"
        learning_rate: float = Field(2e-3, gt=0)
        """Peak rate for every parameter."""
        beta1: float = Field(0.9, ge=0, lt=1)
        """Memory of the mean gradient."""
        beta2: float = Field(0.95, ge=0, lt=1)
        """Memory of the squared gradient."""
        epsilon: float = Field(1e-8, gt=0)
        """Smallest divisor, in gradient units."""
        weight_decay: float = Field(0.1, ge=0)
        """Pull of matrices towards zero, a fraction per unit of rate."""
        table_decay: float = Field(0.0, ge=0)
        """Pull of embeddings and heads towards zero, a fraction per unit of rate, in rows larger than new ones: keeps repeated
        text from being learned by heart."""

    def __init__(self, config: Config, named_parameters: Iterable[tuple[str, Parameter]]):
        named_parameters = list(named_parameters)
        super().__init__(
            decaying(named_parameters, config.learning_rate, config.weight_decay),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=True,
        )
        self.table_decay, self.tables = config.table_decay, roles(named_parameters).tables

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every parameter that has a gradient once."""
        with torch.enable_grad():
            loss = closure() if closure else None
        if self.table_decay:
            moving = [table for table in self.tables if table.grad is not None]
            decay_rows(moving, self.param_groups[0]["lr"] * self.table_decay)
        super().step()
        return loss
