"""One of several processes that learn from their own answers, started by torchrun: policy_worker.py FOLDER OBJECTIVE."""

import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.train.small_policy import model, policy_run, teach

from danlu.core import log
from danlu.train.launch import join
from danlu.train.loop import train
from danlu.train.parallel import unwrapped

FEW = [(0, b) for b in range(10)]


def main(folder: Path, name: str) -> None:
    torch.set_num_threads(1)
    with join() as world, log.silent():
        made = teach(model(width=32), 12, FEW, habit=0.5)
        more = {"kl": 0.05, "rewards": "running", "kl_target": 1.0} if name == "ppo" else {"kl": 0.05}
        run = policy_run(folder, made, name, pairs=FEW, world=world, steps=6, heldout=FEW, micro_tokens=200,
                         rollouts={"prompts": 5, "answers": 3, "minibatches": 2}, **more)  # fmt: skip
        shown = [run.batches.judge()]
        train(run)
        shown.append(run.batches.judge())
        final = unwrapped(run.parallel).state_dict()
        world.wait()
        if world.first:
            held = run.batches.held
            told = {"answers": held.ids_M.tolist(), "lengths": held.lengths_A.tolist(), "rewards": held.total_A.tolist(),
                    "advantages": held.advantages_M.tolist(), "state": held.state, "judged": shown}  # fmt: skip
            (folder / "told.json").write_text(json.dumps(told))
            torch.save(dict(final), folder / "weights.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
