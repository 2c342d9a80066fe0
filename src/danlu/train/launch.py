"""Which processes train together: this one alone, or as many as torchrun started.

torchrun --nproc-per-node 2 -m danlu pretrain ...

Everything that the processes must agree on passes through World: sums, the word of the first process, barriers.
"""

import datetime
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

_PATIENCE = datetime.timedelta(hours=12)  # the first process makes tokens while the others wait


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: Any = None
    """Process group for numbers, on the CPU; None for a process alone."""
    background: Any = None
    """The same processes once more, for the thread that writes checkpoints: two threads on one group wait for ever."""

    @property
    def first(self) -> bool:
        """Does this process speak and write for all?"""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over all processes, in float64; every process gets the same numbers."""
        if self.group is None:
            return [float(value) for value in values]
        total = torch.tensor([float(value) for value in values], dtype=torch.float64)
        dist.all_reduce(total, group=self.group)
        return list(total.tolist())

    def any(self, claim: bool) -> bool:
        """Does any process claim it?"""
        return self.sum([float(claim)])[0] > 0

    def most(self, value: int) -> int:
        """The largest of the processes' numbers."""
        return max(self.gather(value))

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, on every process."""
        if self.group is None:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def tell(self, value: Any) -> Any:
        """The first process's value, on every process."""
        if self.group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.group is not None:
            dist.barrier(group=self.group)


@contextmanager
def join() -> Iterator[World]:
    """The world that the environment describes: torchrun's variables, or this process alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World(device=pick_device(0))
        return
    device = pick_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        group, background = (dist.new_group(backend="gloo", timeout=_PATIENCE) for _ in range(2))
        yield World(dist.get_rank(), dist.get_world_size(), device, group, background)
    finally:
        dist.destroy_process_group()


def pick_device(local_rank: int) -> torch.device:
    """The accelerator of this process where there is one."""
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
