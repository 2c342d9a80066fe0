"""Stochastic gradient descent with momentum: the plainest way to move weights."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch.nn import Parameter

from danlu.core.settings import Named
from danlu.train.optimisers import OPTIMISERS
from danlu.train.optimisers.roles import decaying


@OPTIMISERS.register
class SGD(torch.optim.SGD):
    """PyTorch's SGD; matrices decay, tables and vectors do not."""

    class Config(Named):
        """Rate and momentum of SGD."""

        name: Literal["sgd"] = "sgd"
        learning_rate: float = Field(0.1, gt=0)
        """Peak rate for every parameter."""
        momentum: float = Field(0.9, ge=0, lt=1)
        """Share of the last update that goes on; zero keeps no state."""
        nesterov: bool = True
        """Look one step ahead; needs momentum above zero to matter."""
        weight_decay: float = Field(0.0, ge=0)
        """Pull of matrices towards zero, added to their gradient."""

    def __init__(self, config: Config, named_parameters: Iterable[tuple[str, Parameter]]):
        super().__init__(
            decaying(named_parameters, config.learning_rate, config.weight_decay),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov and config.momentum > 0,
        )
