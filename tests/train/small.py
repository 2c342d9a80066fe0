"""A run small enough for every test: a few made-up documents, the tiny model, steps of milliseconds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from danlu.data.pack import Packer
from danlu.data.tokens import TokenSet, write_tokens
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.train.batches import Batches
from danlu.train.checkpoint import Checkpoints
from danlu.train.guard import Guard, GuardSettings
from danlu.train.horizon import Horizon
from danlu.train.launch import World
from danlu.train.loop import Run
from danlu.train.optimisers import OPTIMISERS
from danlu.train.parallel import Parallel
from danlu.train.schedules import SCHEDULES

VOCAB = 31


@dataclass(frozen=True)
class Text:
    id: str
    source: str
    path: str
    line: int
    text: str


def texts(count=40, poison=None):
    """Documents of letters that repeat with a period of their own; one may be poisoned with capitals."""
    found = []
    for index in range(count):
        letters = "abcdefghijk"[: 2 + index % 7] * 9
        length = 5 + 11 * index % 37
        found.append(
            Text(
                f"d{index}",
                "made",
                f"file{index % 3}.txt",
                index + 1,
                letters[:length].upper() if index == poison else letters[:length],
            )
        )
    return found


def encode(batch):
    """Small letters from 2 up, capitals from 17 up."""
    return [np.array([ord(c) - 95 if c.islower() else ord(c) - 48 for c in text], np.int64) for text in batch]


def token_set(folder: Path, documents=None) -> TokenSet:
    return write_tokens(folder, documents or texts(), encode, bos_id=0, eos_id=1, vocab_size=VOCAB)


def small_run(
    folder: Path, tokens: TokenSet, *, steps=7, rows=6, micro_rows=6, row_tokens=13, seed=0, world=None, mode="auto", watchers=(),
    guard=None, optimiser="adamw", objective=None, keep=2, max_norm=1.0, family="qwen3", prepare=None, rates=None,
) -> Run:  # fmt: skip
    world = world or World()
    torch.manual_seed(99)
    model = MODELS[family].tiny()
    if prepare:
        prepare(model)
    objective = objective or OBJECTIVES.build(OBJECTIVES["causal"].Config())
    parallel = Parallel(model, objective, world, mode)
    config = OPTIMISERS[optimiser].Config(**(rates or {}))
    return Run(
        parallel=parallel,
        optimiser=OPTIMISERS.build(config, list(model.named_parameters())),
        schedule=SCHEDULES.build(SCHEDULES["wsd"].Config()),
        batches=Batches(Packer(tokens, objective.reads(row_tokens), seed), objective, rows, micro_rows, world.rank, world.size),
        horizon=Horizon(folder / "horizon.json", steps),
        checkpoints=Checkpoints(folder / "checkpoints", world, keep),
        guard=Guard(guard or GuardSettings(), folder / "guard.json", writes=world.first),
        seed=seed,
        max_norm=max_norm,
        watchers=watchers,
        folder=folder,
    )


def weights(run: Run) -> dict[str, torch.Tensor]:
    from danlu.train.parallel import unwrapped

    return {name: tensor.detach().clone() for name, tensor in unwrapped(run.parallel).state_dict().items()}
