"""Checkpoints of a run in torch's distributed format: written beside the training, whole or not at all, readable by any
number of processes.

`checkpoints/step-000123/` holds the state after 123 steps: tensors in DCP files, the rest in `state.json`, written last.
It is made aside, fsynced and renamed; a kill or a full disk leaves the last good one as it was.
"""

import json
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

from danlu.core import files, log
from danlu.core.errors import DamagedArtifact
from danlu.train.launch import World


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk."""

    path: Path
    facts: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.facts["step"])


class Checkpoints:
    """The checkpoints of one run. Saving returns at once; an error of the writer shows at the next save or wait."""

    def __init__(self, folder: Path, world: World, keep: int = 2):
        self.folder, self.world, self.keep = folder, world, keep
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None
        if world.first:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".step-*.partial"):
                shutil.rmtree(left)
        world.wait()

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], wait: bool = False) -> None:
        """Copy the state now, write it in the background. Raises what the writer of the last one met (NoSpace)."""
        self.wait()
        copies = {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}
        if self.world.first:
            files.need_bytes(self.folder, sum(copy.numel() * copy.element_size() for copy in copies.values()), "a checkpoint")
        self._writer = threading.Thread(target=self._guarded_write, args=(copies, dict(facts)), name="checkpoint")
        self._writer.start()
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until the last save is on disk. Raises what its writer met."""
        if self._writer:
            self._writer.join()
            self._writer = None
        if self._error:
            error, self._error = self._error, None
            raise error

    def all(self) -> list[Saved]:
        """Every whole checkpoint, by step."""
        return sorted(self._read(), key=lambda saved: saved.step)

    def latest(self) -> Saved | None:
        """The last whole checkpoint, the same for every process."""
        found: Saved | None = self.world.tell(max(self._read(), key=lambda saved: saved.step, default=None))
        return found

    def best(self) -> Saved | None:
        """The whole checkpoint with the lowest held-out loss, the same for every process."""
        found: Saved | None = self.world.tell(best(self.all()))
        return found

    def load(self, saved: Saved, model: nn.Module, optimiser: Any | None = None) -> None:
        """Fill what moves in a model (and an optimiser) in place, sharded here as they may be. Raises DamagedArtifact."""
        state: dict[str, Any] = {f"model.{name}": tensor for name, tensor in moving(model).items()}
        slots = dict(_slots(saved.path, model)) if optimiser else {}
        state |= {key: tensor for key, (_, _, tensor) in slots.items()}
        try:
            with _quiet():
                dcp.load(state, checkpoint_id=saved.path, process_group=self.world.group, no_dist=self.world.group is None)
        except (OSError, RuntimeError, dcp.api.CheckpointException) as error:
            raise DamagedArtifact(
                f"{saved.path} cannot be read: {error}. Remove it: the run goes on from the one before."
            ) from None
        if optimiser:
            for parameter, key, tensor in slots.values():
                optimiser.state[parameter][key] = tensor

    def _read(self) -> Iterator[Saved]:
        for path in self.folder.glob("step-*"):
            yield Saved(path, json.loads((path / "state.json").read_text(encoding="utf-8")))

    def _guarded_write(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        try:
            with files.writing(self.folder):
                self._write(tensors, facts)
        except BaseException as error:
            self._error = error  # raised in the training thread
            if self.world.first:
                shutil.rmtree(self._aside(facts), ignore_errors=True)

    def _write(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        aside, path = self._aside(facts), self.folder / f"step-{facts['step']:06d}"
        if path.exists():
            return  # made before a resume or rollback, and steps repeat exactly
        try:
            with _quiet():
                dcp.save(tensors, checkpoint_id=aside, process_group=self.world.background, no_dist=self.world.group is None)
        except dcp.api.CheckpointException as error:
            raise _cause(error) from error
        if self.world.first:
            files.write_text(aside / "state.json", json.dumps(facts, indent=1) + "\n")
            files.sync_tree(aside)
            aside.rename(path)
            files.sync_folder(self.folder)
            log.emit("checkpoint", step=facts["step"], path=str(path))
            self._prune()

    def _prune(self) -> None:
        """Remove all but the last `keep` and the best."""
        saved = self.all()
        kept = {one.step for one in saved[-self.keep :]} | ({found.step} if (found := best(saved)) else set())
        for one in saved:
            if one.step not in kept:
                gone = self.folder / f".{one.path.name}.partial"  # renamed first: half a checkpoint must not look whole
                one.path.rename(gone)
                shutil.rmtree(gone)

    def _aside(self, facts: Mapping[str, Any]) -> Path:
        return self.folder / f".step-{facts['step']:06d}.partial"


def moving(model: nn.Module) -> dict[str, Tensor]:
    """What of a model's state training may move: parameters that learn, and buffers. What is frozen is read from its folder."""
    frozen = {name for name, part in model.named_parameters(remove_duplicate=False) if not part.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def training_state(model: nn.Module, optimiser: Any) -> dict[str, Tensor]:
    """Model and optimiser as named tensors: `model.NAME`, and `optimiser.NAME.KEY` for what is remembered of a parameter."""
    state = {f"model.{name}": tensor for name, tensor in moving(model).items()}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            state[f"optimiser.{name}.{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return state


def best(saved: list[Saved]) -> Saved | None:
    """The one with the lowest held-out loss, of equals the last; None where none was measured."""
    measured = [one for one in saved if one.facts.get("heldout_loss") is not None]
    return min(measured, key=lambda one: (one.facts["heldout_loss"], -one.step), default=None)


def _slots(path: Path, model: nn.Module) -> Iterator[tuple[str, tuple[nn.Parameter, str, Tensor]]]:
    """Empty tensors for what a checkpoint remembers of each parameter, sharded like the parameter where shapes agree."""
    metadata = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    for name, parameter in model.named_parameters():
        prefix = f"optimiser.{name}."
        for stored, facts in metadata.items():
            if stored.startswith(prefix) and "." not in stored[len(prefix) :]:
                dtype, size = facts.properties.dtype, facts.size
                if size == parameter.shape:
                    empty = torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
                else:
                    empty = torch.zeros(size, dtype=dtype, device=parameter.device)
                yield stored, (parameter, stored[len(prefix) :], empty)


def _cause(error: BaseException) -> BaseException:
    """The first failure inside torch's wrapper."""
    for failure in getattr(error, "failures", {}).values():
        return failure[0]
    return error


class _quiet(warnings.catch_warnings):
    """Without torch's remark that a single process saves alone: that is meant."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", module=r"torch\.distributed\.checkpoint")
        warnings.filterwarnings("ignore", message=".*(torch.distributed|TypedStorage).*")
