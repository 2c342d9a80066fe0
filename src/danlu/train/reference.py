"""What the reference model thinks of the answers: log-probabilities of all samples' targets, computed once before the first step.

So no second model stays in memory. The numbers lie in the run's work folder, whole or not at all, known by what they were made
from; a run that goes on reads them. They travel beside the targets, in `Encoded.values`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from danlu.core import files, log
from danlu.core.labels import NO_LABEL
from danlu.objectives.labelled import Encoded, Labelled
from danlu.train.launch import World
from danlu.train.samples import Array, Samples, pack

NAME = "reference.safetensors"
_KEY = "made_from"


def add_reference(
    samples: Mapping[str, Samples], objective: Labelled, model: Any, folder: Path, made_from: Mapping[str, Any], world: World, *,
    row_tokens: int, micro_tokens: int, dtype: torch.dtype | None = None, around: AbstractContextManager[Any] | None = None,
) -> None:  # fmt: skip
    """Put the log-probabilities that `model` gives to the targets of every split beside them, in place.

    folder: where they are kept. made_from: what says which model it is. dtype: that of the training's matrix products, so that
    model and reference agree at the first step. around: entered for the computation (adapters that are switched off).
    """
    key = identify({**made_from, "objective": objective.config.name, "dtype": str(dtype)}, samples)
    if world.first and read(folder / NAME, key) is None:
        with around or nullcontext(), as_judge(model, dtype):
            found = {split: score(part, objective, model, row_tokens, micro_tokens, split) for split, part in samples.items()}
        files.need_bytes(folder, sum(part.nbytes for part in found.values()), "the reference model's log-probabilities")
        with files.atomic(folder / NAME, "wb") as file:
            file.write(save(found, {_KEY: key}))
    world.wait()
    kept = read(folder / NAME, key)
    assert kept is not None
    for split, part in samples.items():
        part.encoded = list(filled(part.encoded, kept[split]))


def identify(made_from: Mapping[str, Any], samples: Mapping[str, Samples]) -> str:
    """A hash of a model, an objective and all samples."""
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode())
    for split, part in samples.items():
        digest.update(f"{split} {len(part)}".encode())
        for one in part.encoded:
            for column in (one.ids, one.targets, one.documents):
                digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def read(path: Path, key: str) -> dict[str, Array] | None:
    """The numbers that are kept by split, one for each target; None where there are none, or of something else."""
    try:
        with safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get(_KEY) != key:
                return None
            return {split: file.get_tensor(split) for split in file.keys()}  # noqa: SIM118  # not a dictionary
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        log.warn(f"{path} cannot be read ({error}); it is computed again")
        return None


@contextmanager
def as_judge(model: Any, dtype: torch.dtype | None) -> Iterator[None]:
    """The model without dropout, gradients, or another precision than training has."""
    training, before = model.training, model.compute_dtype
    model.eval()
    model.compute_dtype = dtype
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        model.compute_dtype = before


def score(samples: Samples, objective: Labelled, model: Any, row_tokens: int, micro_tokens: int, split: str) -> Array:
    """Log-probabilities of all targets of all samples, in their order, (N,) float32 in nats."""
    counts = [int((one.targets != NO_LABEL).sum()) for one in samples.encoded]
    ends = np.cumsum([0, *counts])
    found = np.zeros(int(ends[-1]), np.float32)
    with log.progress(f"reference model, {split}", total=len(samples), unit="samples") as bar:
        for these in groups(samples.lengths, micro_tokens):
            batch = pack(objective, [(at, samples.encoded[at]) for at in these], row_tokens)
            moved, at = batch.to(model.device), 0
            asked_BT = moved.targets != NO_LABEL
            hidden_BTD = model.hidden(moved.ids, documents_BT=moved.documents)
            logp_N: Tensor = model.token_logprobs(hidden_BTD[asked_BT], moved.targets[asked_BT]).cpu()
            for row in batch.origin:
                for number in dict.fromkeys(row[:, 0].tolist()):  # a sample's texts stand together
                    found[ends[number] : ends[number + 1]] = logp_N[at : at + counts[number]].numpy()
                    at += counts[number]
            bar.advance(len(these))
    return found


def groups(lengths: Array, most: int) -> Iterator[range]:
    """Samples in order, as many at once as have `most` tokens together; at least one.

    >>> list(groups(np.array([3, 4, 9, 1]), most=8))
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    start, held = 0, 0
    for at, length in enumerate(lengths.tolist()):
        if at > start and held + length > most:
            yield range(start, at)
            start, held = at, 0
        held += length
    if start < len(lengths):
        yield range(start, len(lengths))


def filled(encoded: list[Encoded], logp_N: Array) -> Iterator[Encoded]:
    """The samples with a number beside each target; those beside other places stay."""
    at = 0
    for one in encoded:
        asked = one.targets != NO_LABEL
        values, count = one.values.copy(), int(asked.sum())
        values[asked] = logp_N[at : at + count]
        at += count
        yield replace(one, values=values)
