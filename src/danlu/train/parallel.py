"""One model on many processes: replicas (DDP) or shards (FSDP2), over one device mesh; alone it is the plain module.

The model and its objective form one module, so that data-parallel hooks see one forward call whatever the objective asks
of the model. Gradients come out averaged over processes; the loop multiplies the loss by their number, so sums stay sums.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from danlu.core.errors import BadSettings
from danlu.models.adapters.base import twin
from danlu.models.base import LanguageModel
from danlu.models.plan import blocks
from danlu.objectives.base import Batch
from danlu.train.launch import World

Mode = Literal["auto", "none", "ddp", "fsdp"]


class Scored(nn.Module):
    """A model and what it is scored by; a batch goes in, the sum of nats comes out."""

    def __init__(self, model: nn.Module, objective: Any):
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> Tensor:
        loss: Tensor = self.objective.loss_sum(self.model, batch)
        penalty = self.model.penalty() if self.training else None
        return loss if penalty is None else loss + penalty * batch.target_count


class Parallel:
    """`module(batch)` on this process; `micro(last)` around every forward and backward but the last saves an exchange."""

    def __init__(self, model: nn.Module, objective: Any, world: World, mode: Mode = "auto", dtype: torch.dtype | None = None):
        self.model, self.world = model, world
        model.compute_dtype = dtype
        self.mode = choose(mode, world)
        self.module: Any = Scored(model, objective)
        if self.mode == "ddp":
            device = None if world.device.type == "cpu" else [world.device]
            self.module = nn.parallel.DistributedDataParallel(self.module, device_ids=device)
        elif self.mode == "fsdp":
            shard(self.module, world)

    @contextmanager
    def micro(self, last: bool) -> Iterator[None]:
        """One micro-batch: the chosen precision inside, and gradients exchanged with the last one only."""
        if self.mode == "fsdp":
            self.module.set_requires_gradient_sync(last)
        if self.mode == "ddp" and not last:
            with self.module.no_sync():
                yield
        else:
            yield

    def after_step(self, moved: bool) -> None:
        """Let every language model inside do what it does between steps; every process must ask. moved: the weights were."""
        for part in self.model.modules():
            if isinstance(part, LanguageModel):
                part.after_step(self.world.sum, moved)

    def loss_sum(self, batch: Batch) -> Tensor:
        """Sum of nats of a micro-batch, which is brought to this process's device first."""
        return self.module(batch.to(self.world.device))


def choose(mode: Mode, world: World) -> str:
    """What to do with several processes. Raises BadSettings when they are missing."""
    if mode == "auto":
        return "ddp" if world.group is not None else "none"
    if mode in ("ddp", "fsdp") and world.group is None:
        raise BadSettings(
            f"--parallel {mode} needs processes to spread over: start them with torchrun --nproc-per-node 2 -m danlu pretrain ..."
        )
    if mode == "none" and world.size > 1:
        raise BadSettings(f"--parallel none, but {world.size} processes were started: say auto, ddp or fsdp.")
    return mode


def shard(module: nn.Module, world: World) -> None:
    """Shard every block, and what remains, over all processes (FSDP2)."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,), mesh_dim_names=("shard",))
    for _, block in blocks(module):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


def save_activations(model: nn.Module) -> None:
    """Recompute every block in the backward pass and keep only its input: less memory, about a third more time."""
    for _, block in blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_blocks(model: nn.Module) -> None:
    """Compile block by block: one short compilation serves all layers."""
    for _, block in blocks(model):
        block.compile()


def clip(parameters: list[nn.Parameter], most: float) -> float:
    """Scale gradients so that their norm is at most `most` (0: leave them). Returns the norm before, over all processes."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm(grads)
    if most:
        nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return float(whole(norm))


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor in full; every process must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def unwrapped(parallel: Parallel) -> Any:
    """The model with every weight in full; a sharded one is gathered into a new model, and every process must ask."""
    model: Any = parallel.model
    if parallel.mode != "fsdp":
        return model
    state = {name: whole(tensor.detach()).cpu() for name, tensor in model.state_dict().items()}
    full = twin(model)
    full.load_state_dict(state)
    return full
