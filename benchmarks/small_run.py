"""One small training run on an array of tokens with the product's own parts: what experiments share.

Cost is counted in processor seconds of this process: other work on the machine moves it little, wall time a lot.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.tokenizer.trainers import TRAINERS
from danlu.train.optimisers import OPTIMISERS
from danlu.train.schedules import SCHEDULES

BLOCK = 4000
"""Characters of a block; every twentieth block is held out."""


@dataclass(frozen=True)
class Tokens:
    """Training and held-out tokens of a text under one vocabulary."""

    train: torch.Tensor
    held_out: torch.Tensor
    held_out_bytes: int
    vocab_size: int


@dataclass(frozen=True)
class Setting:
    """A run but for its length."""

    model: dict[str, Any]
    row_tokens: int = 128
    rows: int = 8
    optimiser: dict[str, Any] = field(default_factory=lambda: {"name": "muon"})
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "wsd"})
    dtype: str = "float32"
    seed: int = 0


def tokens(path: Path, vocab_size: int) -> Tokens:
    """Split a text by blocks, learn a byte-level BPE from the training part, encode both."""
    text = path.read_text(encoding="utf-8")
    blocks = [text[start : start + BLOCK] for start in range(0, len(text), BLOCK)]
    held_out = "".join(blocks[::20])
    train = "".join(block for number, block in enumerate(blocks) if number % 20)
    tokenizer = TRAINERS.build(TRAINERS["bpe"].Config()).train(train.splitlines(keepends=True), vocab_size=vocab_size)
    parts = [torch.from_numpy(tokenizer.encode_array(part).astype(np.int64)) for part in (train, held_out)]
    return Tokens(*parts, held_out_bytes=len(held_out.encode()), vocab_size=tokenizer.vocab_size)


class SmallRun:
    """Training that can be asked for its held-out bits per byte."""

    def __init__(self, data: Tokens, setting: Setting):
        self.data, self.setting = data, setting
        family = MODELS[setting.model["name"]]
        config = family.Config(**{**setting.model, "vocab_size": data.vocab_size, "max_position_embeddings": setting.row_tokens})
        self.model = family(config, setting.seed)
        if setting.dtype == "bfloat16":
            self.model.compute_dtype = torch.bfloat16
        self.objective = OBJECTIVES.build(OBJECTIVES["causal"].Config())
        chosen = OPTIMISERS[setting.optimiser["name"]]
        self.optimiser = chosen(chosen.Config(**setting.optimiser), list(self.model.named_parameters()))
        self.schedule = SCHEDULES.build(SCHEDULES[setting.schedule["name"]].Config(**setting.schedule))
        self._order, self._queue = torch.Generator().manual_seed(setting.seed), []

    def train(self, steps: int) -> float:
        """Run `steps` steps as a whole schedule; processor seconds spent."""
        started = time.process_time()
        for step in range(steps):
            self.step(self.schedule.factor(step, steps))
        return time.process_time() - started

    def step(self, factor: float) -> None:
        """One step at a share of the peak rates."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_lr"] * factor
        batch = self._batch()
        (self.objective.loss_sum(self.model, batch) / batch.target_count).backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def step_cpu_s(self, steps: int = 12) -> float:
        """Processor seconds of a step: the second fastest of some that learn nothing, since neighbours only ever slow a step."""
        times = []
        for _ in range(steps):
            started = time.process_time()
            self.step(1e-9)
            times.append(time.process_time() - started)
        return sorted(times)[1]

    @torch.no_grad()
    def bits_per_byte(self) -> float:
        """Over all held-out text, in windows of a row that do not overlap."""
        held_out, length = self.data.held_out, self.setting.row_tokens
        nats, last = 0.0, len(held_out) - 1
        for start in range(0, last, length * 64):
            stop = min(start + length * 64, last)
            whole = (stop - start) // length * length
            for first, end in ((start, start + whole), (start + whole, stop)):
                if end > first:
                    shape = (-1, length) if end - first >= length else (1, -1)
                    x, y = held_out[first:end].reshape(shape), held_out[first + 1 : end + 1].reshape(shape)
                    nats += self.objective.loss_sum(self.model, Batch(x, y)).item()
        return nats / self.data.held_out_bytes / math.log(2)

    def _batch(self) -> Batch:
        """Rows of an epoch in random order, each once, cut at an offset that moves with the epoch."""
        train, length = self.data.train, self.setting.row_tokens
        if len(self._queue) < self.setting.rows:
            offset = int(torch.randint(length, (), generator=self._order))
            rows = (len(train) - 1 - offset) // length
            self._queue.extend((torch.randperm(rows, generator=self._order) * length + offset).tolist())
        at = torch.tensor([self._queue.pop() for _ in range(self.setting.rows)])[:, None] + torch.arange(length)
        return Batch(train[at], train[at + 1])


def at_equal_cost(data: Tokens, setting: Setting, cpu_s: float) -> dict[str, Any]:
    """Train for as many steps as `cpu_s` processor seconds allow, as measured before; the result and what it took."""
    steps = max(8, int(cpu_s / SmallRun(data, setting).step_cpu_s()))
    run = SmallRun(data, setting)
    spent = run.train(steps)
    return {
        "bits_per_byte": round(run.bits_per_byte(), 4),
        "cpu_s": round(spent, 2),
        "steps": steps,
        "tokens": steps * setting.rows * setting.row_tokens,
        "parameters": sum(part.numel() for part in run.model.parameters()),
    }
