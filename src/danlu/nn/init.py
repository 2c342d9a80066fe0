"""First values of a model's parameters: a pure function of (seed, parameter name), whatever order or shard they are made in."""

from collections.abc import Callable

import torch
from torch import nn

from danlu.core.seeds import derive


def initialise(
    model: nn.Module, seed: int, spread: Callable[[str, nn.Parameter], float], constant: Callable[[str], float]
) -> None:
    """Fill every parameter: vectors with `constant(name)`, matrices normal with standard deviation `spread(name, matrix)`.

    Parameters without storage (the meta device) are left alone: a file fills them.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            continue
        with torch.no_grad():
            if parameter.dim() == 1:
                parameter.fill_(constant(name))
                continue
            width = spread(name, parameter)
            if width == 0.0:
                parameter.zero_()
            else:
                generator = torch.Generator(parameter.device).manual_seed(derive(seed, "init", name))
                parameter.normal_(0.0, width, generator=generator)
