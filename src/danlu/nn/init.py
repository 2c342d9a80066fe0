"""First values of a model's parameters: a pure function of (seed, parameter name), whatever order or shard they are made in."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from danlu.core.seeds import derive


def initialise(
    model: nn.Module,
    seed: int,
    spread: Callable[[str, nn.Parameter], float],
    constant: Callable[[str], float],
    first: Callable[[str, nn.Parameter, torch.Generator], Tensor | None] = lambda *_: None,
) -> None:
    """Fill every parameter: vectors with `constant(name)`, matrices normal with standard deviation `spread(name, matrix)`.

    first: values that a family chooses otherwise, with a generator of the parameter's own; None leaves it to the other two.
    Parameters without storage (the meta device) are left alone: a file fills them.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            continue
        generator = torch.Generator(parameter.device).manual_seed(derive(seed, "init", name))
        with torch.no_grad():
            if (chosen := first(name, parameter, generator)) is not None:
                parameter.copy_(chosen)
            elif parameter.dim() == 1:
                parameter.fill_(constant(name))
            elif (width := spread(name, parameter)) == 0.0:
                parameter.zero_()
            else:
                parameter.normal_(0.0, width, generator=generator)


def uniform(parameter: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Values of a parameter's shape, even between -most and most."""
    return (2 * torch.rand(parameter.shape, generator=generator, device=generator.device) - 1) * most


def orthogonal(parameter: Tensor, gain: float, generator: torch.Generator) -> Tensor:
    """A matrix of a parameter's shape whose shorter side is orthonormal, times `gain` (Saxe et al. 2013, arXiv:1312.6120)."""
    drawn = torch.randn(parameter.shape, generator=generator, device=generator.device)
    basis, upper = torch.linalg.qr(drawn.mT if drawn.size(0) < drawn.size(1) else drawn)
    basis = basis * upper.diagonal().sign()
    return gain * (basis.mT if drawn.size(0) < drawn.size(1) else basis)
