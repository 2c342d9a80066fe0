"""The answers of one roll-out, in memory and on disk: what was written, what it is worth, what the module said of it.

OUT.run/rollouts/ROLLOUT.{safetensors, jsonl}: numbers that training goes on with, and texts for people. Those that no checkpoint
can ask for any more are removed. A answers, M tokens of all of them one behind another, P prompts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save

from danlu.core import files
from danlu.core.errors import DamagedArtifact
from danlu.engine.live import Written
from danlu.train.launch import World

Array = NDArray[Any]
_OF_TOKENS = ("ids_M", "drawn_M", "old_M", "reference_M", "values_M", "advantages_M", "returns_M")
_OF_ANSWERS = ("prompt_A", "lengths_A", "ended_A", "total_A")


@dataclass
class Answers:
    """The answers of roll-out `number`; those to a prompt side by side."""

    number: int
    prompt_A: Array
    """Number of the prompt of each."""
    lengths_A: Array
    ended_A: Array
    """Whether the model ended it by itself."""
    total_A: Array
    """float32: the weighted sum of its rewards."""
    parts: dict[str, Array]
    """Single rewards, (A,) each."""
    ids_M: Array
    drawn_M: Array
    """float32: log-probabilities by the engine."""
    texts: list[str] = field(default_factory=list)
    old_M: Array | None = None
    """float32: by the module at the time."""
    reference_M: Array | None = None
    values_M: Array | None = None
    advantages_M: Array | None = None
    returns_M: Array | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """What is reported of it."""
    state: dict[str, float] = field(default_factory=dict)
    """What the next roll-out must know."""
    totals: dict[str, int] = field(default_factory=dict)
    """Counts over this roll-out and all before it, for the ledger."""
    fresh: bool = True
    """Whether it was written now and not read from disk."""

    @classmethod
    def of(cls, number: int, prompt_A: Array, written: Sequence[Written], total: Sequence[float],
           parts: Mapping[str, Sequence[float]], texts: list[str]) -> "Answers":  # fmt: skip
        """From what the engine wrote, and its rewards."""
        return cls(
            number, prompt_A.astype(np.int64), np.array([len(one.ids) for one in written], np.int64),
            np.array([one.reason == "eos" for one in written], bool), np.array(total, np.float32),
            {name: np.array(part, np.float32) for name, part in parts.items()},
            np.concatenate([np.array(one.ids, np.int64) for one in written]),
            np.concatenate([np.array(one.logprobs, np.float32) for one in written]), texts,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.prompt_A)

    def span(self, answer: int) -> slice:
        """The tokens of an answer among all."""
        end = int(self._ends[answer])
        return slice(end - int(self.lengths_A[answer]), end)

    @property
    def _ends(self) -> Array:
        return np.cumsum(self.lengths_A)

    def dull_P(self, group: int) -> Array:
        """Prompts whose answers are all worth the same."""
        return np.ptp(self.total_A.reshape(-1, group), axis=1) == 0

    def replace(self, places: Array, other: "Answers", chosen: Array, group: int) -> None:
        """Put the prompts `chosen` of another roll-out, with their answers, in the places of some of this one's."""
        source = [(self, at) for at in range(len(self) // group)]
        for place, at in zip(places.tolist(), chosen.tolist(), strict=True):
            source[place] = (other, at)
        answers = [(held, at * group + choice) for held, at in source for choice in range(group)]
        found = {
            name: np.concatenate([getattr(held, name)[held.span(answer)] for held, answer in answers])
            for name in ("ids_M", "drawn_M")
        }
        found |= {name: np.array([getattr(held, name)[answer] for held, answer in answers]) for name in _OF_ANSWERS}
        self.parts = {name: np.array([held.parts[name][answer] for held, answer in answers]) for name in self.parts}
        self.texts = [held.texts[answer] for held, answer in answers]
        for name, value in found.items():
            setattr(self, name, value)

    def counted(self, group: int) -> dict[str, int]:
        """Counts of this roll-out."""
        return {"answers": len(self), "answer_tokens": len(self.ids_M), "ran_out_of_tokens": int((~self.ended_A).sum()),
                "prompts": len(self) // group, "prompts_that_teach_nothing": int(self.dull_P(group).sum())}  # fmt: skip

    def measured(self, group: int) -> dict[str, float]:
        """Figures of the answers themselves."""
        found = {"reward": float(self.total_A.mean()), "reward_std": float(self.total_A.std()),
                 "length": float(self.lengths_A.mean()), "stopped": float(self.ended_A.mean()),
                 "cut": float(1 - self.ended_A.mean()), "dull": float(self.dull_P(group).mean())}  # fmt: skip
        for name, part in self.parts.items():
            found |= {f"reward_{name}": float(part.mean()), f"reward_{name}_std": float(part.std())}
        if self.old_M is not None:
            found["engine_gap"] = float(np.abs(self.drawn_M - self.old_M).mean())
            if self.reference_M is not None:
                gap = (self.reference_M - self.old_M).astype(np.float64)
                found["kl"] = float((np.exp(gap) - gap - 1).mean())
        return found


class Kept:
    """The roll-outs of a run on disk; None as the folder: nothing is kept, as for a trial."""

    def __init__(self, folder: Path | None, updates: int, checkpoints: Path | None = None):
        self.folder, self.updates, self.checkpoints = folder, updates, checkpoints

    def load(self, number: int, world: World) -> Answers | None:
        """A roll-out from disk, in every process; None where it is not there. Raises DamagedArtifact."""
        path = self._path(number)
        if path is None or number < 0 or not world.tell(path.is_file()):
            return None
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                told, tensors = json.loads(file.metadata()["danlu"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
            raise DamagedArtifact(f"{path} cannot be read ({error}). Remove it: the roll-out is written again.") from None
        parts = {name: tensors.pop(f"reward.{name}") for name in told["rewards"]}
        kept = {name: told[name] for name in ("texts", "figures", "state", "totals")}
        return Answers(number, parts=parts, fresh=False, **kept, **tensors)

    def save(self, held: Answers, world: World) -> None:
        """Keep a roll-out, whole or not at all, and remove those that are no longer needed."""
        path = self._path(held.number)
        if path is None or self.folder is None:
            return
        if world.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {name: part for name in (*_OF_TOKENS, *_OF_ANSWERS) if (part := getattr(held, name)) is not None}
            tensors |= {f"reward.{name}": part for name, part in held.parts.items()}
            told = {"rewards": [*held.parts], **{name: getattr(held, name) for name in ("texts", "figures", "state", "totals")}}
            lines = [
                {"prompt": int(held.prompt_A[at]), "text": text, "ended": bool(held.ended_A[at]),
                 "reward": float(held.total_A[at]), **{name: float(part[at]) for name, part in held.parts.items()}}
                for at, text in enumerate(held.texts)
            ]  # fmt: skip
            files.write_text(path.with_suffix(".jsonl"), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            with files.atomic(path, "wb") as file:
                file.write(
                    save({name: np.ascontiguousarray(part) for name, part in tensors.items()}, {"danlu": json.dumps(told)})
                )
            self._prune(held.number)
        world.wait()

    def _prune(self, number: int) -> None:
        """A checkpoint at step s needs the roll-out of s, and the state of the one before."""
        steps = [int(path.name[5:]) for path in self.checkpoints.glob("step-*")] if self.checkpoints else []
        first = min(min(steps, default=0) // self.updates, number) - 1
        for path in (self.folder or Path()).glob("[0-9]*.*"):
            if path.stem.isdigit() and int(path.stem) < first:
                path.unlink()

    def _path(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{number:06d}.safetensors"
