"""One of several processes of a run of 9 steps, started by torchrun: worker.py FOLDER MODE OPTIMISER STOP_AFTER [FAMILY].

FAMILY+ADAPTER lays an adapter on the model first.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.models.adapters.moved import moved
from tests.train.small import small_run, token_set, weights

from danlu.core import log
from danlu.core.errors import Interrupted
from danlu.train.launch import join
from danlu.train.loop import train
from danlu.train.watchers.base import StepFacts, Watcher


class Losses(Watcher):
    """Keeps what every step measured and which rows it saw, and asks to stop after some step, as Ctrl-C would."""

    def __init__(self, stop_after):
        self.rows, self.stop_after = [], stop_after

    def after_step(self, run, facts: StepFacts) -> None:
        seen = run.world.gather([int(number) for part in run.batches.numbers(facts.step - 1) for number in part])
        self.rows.append([facts.step, facts.loss, facts.grad_norm, [number for part in seen for number in part]])
        run.stop.asked = run.world.first and facts.step == self.stop_after  # one process hears of it: all must stop


def main(folder: Path, mode: str, optimiser: str, stop_after: int, family: str = "qwen3") -> None:
    torch.set_num_threads(1)
    with join() as world:
        losses = Losses(stop_after)
        tokens = token_set_shared(folder, world)
        family, _, adapter = family.partition("+")
        run = small_run(
            folder, tokens, world=world, mode=mode, optimiser=optimiser, steps=9, micro_rows=2, watchers=[losses], family=family,
            prepare=(lambda model: moved(model, adapter, base="int8")) if adapter else None, rates={"table_decay": 0.5},
        )  # fmt: skip
        saved = run.checkpoints.latest()
        if saved:
            run.restore(saved)
        with suppress(Interrupted):
            train(run)
        final = weights(run)
        world.wait()
        if world.first:
            with open(folder / "steps.jsonl", "a") as file:
                file.writelines(json.dumps(row) + "\n" for row in losses.rows)
            torch.save(final, folder / "weights.pt")


def token_set_shared(folder: Path, world):
    if world.first:
        token_set(folder / "tokens")
    world.wait()
    return token_set(folder / "tokens")


if __name__ == "__main__":
    with log.silent():
        main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), *sys.argv[5:])
