"""Muon for hidden matrices, AdamW for the rest: updates whose every direction has the same size.

Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); scale of the step as in torch.optim.Muon's "original".
Matrices of one shape (or its transpose) go through the iteration together, in one batched product.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adamw import adamw

from danlu.core.settings import Named
from danlu.train.optimisers import OPTIMISERS
from danlu.train.optimisers.orthogonal import COEFFICIENTS, orthogonalise
from danlu.train.optimisers.roles import roles
from danlu.train.optimisers.tables import decay_rows


@OPTIMISERS.register
class Muon(torch.optim.Optimizer):
    """Groups: hidden matrices (rule "muon"), tables and vectors (rule "adamw"). State is kept by parameter."""

    class Config(Named):
        """Rates and memory of Muon and of the AdamW beside it."""

        name: Literal["muon"] = "muon"
        learning_rate: float = Field(0.02, gt=0)
        """Peak rate of hidden matrices: the spectral size of one update, before the shape's factor."""
        table_rate: float = Field(6e-3, gt=0)
        """Peak AdamW rate of embeddings and heads."""
        vector_rate: float = Field(6e-3, gt=0)
        """Peak AdamW rate of norms, biases and scalars."""
        momentum: float = Field(0.95, ge=0, lt=1)
        """Memory of a matrix's gradient (Nesterov's form)."""
        weight_decay: float = Field(0.0, ge=0)
        """Pull of matrices towards zero, a fraction per unit of rate."""
        table_decay: float = Field(0.0, ge=0)
        """Pull of embeddings and heads towards zero, a fraction per unit of rate, in rows larger than new ones: keeps repeated
        text from being learned by heart."""
        iterations: int = Field(4, ge=1, le=len(COEFFICIENTS))
        """Steps that make an update orthogonal; fewer are cheaper and rougher."""
        dtype: Literal["float32", "bfloat16"] = "float32"
        """Type in which the iterations compute; the budget dial takes bfloat16 where this machine multiplies it faster."""
        beta1: float = Field(0.9, ge=0, lt=1)
        """AdamW's memory of the mean gradient."""
        beta2: float = Field(0.95, ge=0, lt=1)
        """AdamW's memory of the squared gradient."""
        epsilon: float = Field(1e-10, gt=0)
        """AdamW's smallest divisor, in gradient units."""

    def __init__(self, config: Config, named_parameters: Iterable[tuple[str, Parameter]]):
        found = roles(named_parameters)
        matrix = {"rule": "muon", "momentum": config.momentum, "weight_decay": config.weight_decay}
        matrix |= {"iterations": config.iterations, "dtype": config.dtype}
        other = {"rule": "adamw", "betas": (config.beta1, config.beta2), "eps": config.epsilon, "weight_decay": 0.0}
        groups = [
            {"params": found.matrices, "lr": config.learning_rate, **matrix},
            {"params": found.tables, "lr": config.table_rate, **other, "table_decay": config.table_decay},
            {"params": found.vectors, "lr": config.vector_rate, **other},
        ]
        super().__init__([{**group, "base_lr": group["lr"]} for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every parameter that has a gradient once."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moving:
                (self._muon if group["rule"] == "muon" else self._adamw)(group, moving)
        return loss

    def _muon(self, group: dict[str, Any], moving: list[Tensor]) -> None:
        grads = [parameter.grad for parameter in moving]
        momenta = [self._buffer(parameter, "momentum") for parameter in moving]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        updates = torch._foreach_lerp(grads, momenta, group["momentum"])  # Nesterov: the gradient again, on top
        if group["weight_decay"]:
            torch._foreach_mul_(moving, 1 - group["lr"] * group["weight_decay"])
        orthogonal = orthogonalise_all(updates, group["iterations"], getattr(torch, group["dtype"]))
        scaled = torch._foreach_mul(orthogonal, [-group["lr"] * step_scale(update.shape) for update in updates])
        torch._foreach_add_(moving, scaled)

    def _adamw(self, group: dict[str, Any], moving: list[Tensor]) -> None:
        for parameter in moving:
            if "step" not in self.state[parameter]:  # a tensor: the fused kernel counts in place
                self.state[parameter]["step"] = torch.zeros((), device=parameter.device)
        if group.get("table_decay"):
            decay_rows(moving, group["lr"] * group["table_decay"])
        adamw(
            moving,
            [parameter.grad for parameter in moving],
            [self._buffer(parameter, "exp_avg") for parameter in moving],
            [self._buffer(parameter, "exp_avg_sq") for parameter in moving],
            [],
            [self.state[parameter]["step"] for parameter in moving],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _buffer(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state[name]


def step_scale(shape: torch.Size) -> float:
    """Factor of the rate for a matrix (..., out, in): tall matrices move more, so that outputs change alike."""
    return max(1.0, shape[-2] / shape[-1]) ** 0.5


def orthogonalise_all(updates: list[Tensor], iterations: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Orthogonalise many matrices, those of one shape or its transpose in one batch; the order is kept.

    Axes before the last two (experts) are separate matrices. A sharded update (DTensor) is gathered, and its share
    of the result returned.
    """
    batches: dict[Any, list[int]] = {}
    wholes = [update.full_tensor() if hasattr(update, "full_tensor") else update for update in updates]
    for index, whole in enumerate(wholes):
        batches.setdefault((min(whole.shape[-2:]), max(whole.shape[-2:]), whole.dtype, whole.device), []).append(index)
    done: list[Tensor] = list(updates)
    for members in batches.values():
        parts = [_wide(wholes[index]) for index in members]
        stacked = orthogonalise(torch.cat(parts).to(dtype), iterations).to(parts[0].dtype)
        for index, part in zip(members, stacked.split([part.size(0) for part in parts])):
            shape = wholes[index].shape
            upright = part.mT if shape[-2] > shape[-1] else part
            done[index] = _as_sharded(upright.reshape(shape), updates[index])
    return done


def _wide(whole: Tensor) -> Tensor:
    """(..., M, N) as (K, rows, columns) with rows <= columns."""
    flat = whole.reshape(-1, *whole.shape[-2:])
    return flat.mT if flat.size(1) > flat.size(2) else flat


def _as_sharded(whole: Tensor, like: Tensor) -> Tensor:
    if not hasattr(like, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    mesh = like.device_mesh
    replicated = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return replicated.redistribute(placements=like.placements)
