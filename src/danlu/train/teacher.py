"""A teacher's next-token distributions: computed when a batch comes, or once before the first step and kept on disk.

On disk lie, for each place that asks for something, the log-probabilities of the teacher's likeliest K tokens and that of all
others together, float16, with the tokens' ids; of a vocabulary of at most K tokens all log-probabilities. It is one safetensors
file in the run's work folder, written aside and renamed, known by what it was made from, and mapped into memory, not read. A
place finds its row by its number, which travels as bits in `Encoded.values`. N places, K tokens, V vocabulary, I of N places.
"""

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from danlu.core import files, log
from danlu.core.errors import BadSettings, TokenizerMismatch
from danlu.core.labels import NO_LABEL
from danlu.nn.divergence import Wanted
from danlu.objectives.base import Batch
from danlu.objectives.labelled import Encoded, Labelled
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.train.launch import World
from danlu.train.reference import as_judge, groups, identify
from danlu.train.samples import Samples, pack

Array = NDArray[Any]
NAME = "teacher.safetensors"
_KEY = "made_from"
_DTYPES = {"F16": np.float16, "I32": np.int32}
_CHUNK = 256
"""Places whose logits exist at a time."""


class HeldTeacher:
    """A teacher in memory. known: tokens that text is made of; rows of logits beyond are padding."""

    def __init__(self, model: Any, known: int, temperature: float, dtype: torch.dtype | None = None):
        self.model, self.known, self.temperature, self.dtype = model, known, temperature, dtype
        model.eval().requires_grad_(False)

    @torch.no_grad()
    def on(self, batch: Batch) -> Callable[[slice], Wanted]:
        """As objectives ask for it (objectives/distill.py)."""
        with as_judge(self.model, self.dtype):
            hidden_BTD = self.model.hidden(batch.ids, documents_BT=batch.documents)
        hidden_ND = hidden_BTD[batch.targets != NO_LABEL]
        return lambda rows: Wanted(said(self.model, hidden_ND[rows], self.known, self.temperature))


class KeptTeacher:
    """A teacher's numbers on disk."""

    def __init__(self, path: Path):
        self._parts = mapped(path)

    def on(self, batch: Batch) -> Callable[[slice], Wanted]:
        """As objectives ask for it; places find their rows by the numbers beside them."""
        chosen_BT, device = batch.targets != NO_LABEL, batch.ids.device
        number_N = batch.values[chosen_BT].view(torch.int32).cpu().numpy()  # type: ignore[attr-defined]  # a LabelledBatch

        def wanted(rows: slice) -> Wanted:
            logp_IK = torch.from_numpy(self._parts["logp"][number_N[rows]]).to(device).float().log_softmax(-1)
            if "ids" not in self._parts:
                return Wanted(logp_IK)
            return Wanted(logp_IK, torch.from_numpy(self._parts["ids"][number_N[rows]].astype(np.int64)).to(device))

        return wanted


def keep(
    samples: Mapping[str, Samples], objective: Labelled, opened: Callable[[], Any], known: int, folder: Path,
    made_from: Mapping[str, Any], world: World, *, top: int, temperature: float, row_tokens: int, micro_tokens: int,
    dtype: torch.dtype | None = None,
) -> KeptTeacher:  # fmt: skip
    """Compute what a teacher gives to the targets of every split, once, and number the targets in place.

    opened: opens the teacher where it is needed. folder: where the numbers are kept. made_from: what says which teacher it is.
    top: K. Raises NoSpace before anything is computed.
    """
    made = {**made_from, "objective": objective.config.name, "top": top, "temperature": temperature, "dtype": str(dtype),
            "known": known}  # fmt: skip
    key, path, total = identify(made, samples), folder / NAME, sum(map(_asked, samples.values()))
    if world.first and _key_of(path) != key:
        row_bytes = 2 * known if known <= top else 2 * (top + 1) + 4 * top
        files.need_bytes(folder, total * row_bytes, f"what the teacher holds likely at {total} places")
        log.say(f"the teacher looks at {total} places ({total * row_bytes / 1e6:.1f} MB)")
        teacher = opened()
        with as_judge(teacher, dtype):
            shapes = {"logp": ("F16", (total, known if known <= top else top + 1))}
            shapes |= {} if known <= top else {"ids": ("I32", (total, top))}
            with _writing(path, shapes, key) as parts:
                start = 0
                for split, part in samples.items():
                    _fill(parts, start, part, objective, teacher, known, temperature, row_tokens, micro_tokens, split)
                    start += _asked(part)
    world.wait()
    start = 0
    for part in samples.values():
        part.encoded = list(_numbered(part.encoded, start))
        start += _asked(part)
    return KeptTeacher(path)


def said(teacher: Any, hidden_ID: Tensor, known: int, temperature: float) -> Tensor:
    """Log-probabilities of the known tokens, (I, V) float32."""
    logits_IV = teacher.logits(hidden_ID).float()[:, :known]
    return (logits_IV / temperature if temperature != 1.0 else logits_IV).log_softmax(-1)


def check_vocabularies(student: Tokenizer, teacher: Tokenizer, place: Path) -> None:
    """Raise TokenizerMismatch unless both mean the same texts by the same ids."""
    if student.vocab == teacher.vocab:
        return
    sizes = f"{len(student.vocab)} tokens here, {len(teacher.vocab)} there"
    differing = sorted(student.vocab.items(), key=lambda pair: pair[1])
    token, number = next(((token, number) for token, number in differing if teacher.vocab.get(token) != number), ("", -1))
    where = f"token {number}, {token!r}, is {teacher.vocab.get(token, 'none')} there" if number >= 0 else "more tokens there"
    raise TokenizerMismatch(
        f"the teacher {place} has another vocabulary ({sizes}; {where}), so its distributions are over other tokens. Take a "
        f"teacher with the student's tokenizer, pre-train the student with the teacher's (--tokenizer {place}), or learn from "
        f"answers that the teacher writes (danlu sample {place} DATASET -o ANSWERS, then danlu finetune)."
    )


def mapped(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file as arrays over the file, nothing read yet."""
    return _mapped(path, "r", *_header(path))


def _fill(
    parts: Mapping[str, Array], start: int, samples: Samples, objective: Labelled, teacher: Any, known: int, temperature: float,
    row_tokens: int, micro_tokens: int, split: str,
) -> None:  # fmt: skip
    """Write the rows of one split."""
    counts = [int((one.targets != NO_LABEL).sum()) for one in samples.encoded]
    firsts = start + np.cumsum([0, *counts[:-1]])
    with log.progress(f"teacher, {split}", total=len(samples), unit="samples") as bar:
        for these in groups(samples.lengths, micro_tokens):
            batch = pack(objective, [(at, samples.encoded[at]) for at in these], row_tokens).to(teacher.device)
            hidden_BTD = teacher.hidden(batch.ids, documents_BT=batch.documents)
            hidden_ND = hidden_BTD[batch.targets != NO_LABEL]
            order = [number for row in batch.origin for number in dict.fromkeys(row[:, 0].tolist())]  # a sample's texts adjoin
            place_N = np.concatenate([np.arange(firsts[number], firsts[number] + counts[number]) for number in order])
            for at in range(0, len(hidden_ND), _CHUNK):
                _put(parts, place_N[at : at + _CHUNK], said(teacher, hidden_ND[at : at + _CHUNK], known, temperature))
            bar.advance(len(these))


def _put(parts: Mapping[str, Array], place_I: Array, logp_IV: Tensor) -> None:
    if "ids" not in parts:
        parts["logp"][place_I] = logp_IV.clamp(min=-60000).half().cpu().numpy()
        return
    logp_IK, ids_IK = logp_IV.topk(parts["ids"].shape[1], dim=-1)
    rest_I1 = logp_IV.scatter(1, ids_IK, float("-inf")).logsumexp(-1, keepdim=True)
    parts["logp"][place_I] = torch.cat([logp_IK, rest_I1], 1).clamp(min=-60000).half().cpu().numpy()
    parts["ids"][place_I] = ids_IK.int().cpu().numpy()


def _asked(samples: Samples) -> int:
    """Places that ask for something."""
    return sum(int((one.targets != NO_LABEL).sum()) for one in samples.encoded)


def _numbered(encoded: Sequence[Encoded], start: int) -> Iterator[Encoded]:
    """Samples whose targets have numbers from `start` on beside them, as the bits of float32."""
    for one in encoded:
        asked = one.targets != NO_LABEL
        values, end = np.zeros(len(one.ids), np.int32), start + int(asked.sum())
        values[asked] = np.arange(start, end, dtype=np.int32)
        start = end
        yield replace(one, values=values.view(np.float32))


@contextmanager
def _writing(path: Path, shapes: Mapping[str, tuple[str, tuple[int, ...]]], key: str) -> Iterator[dict[str, Array]]:
    """Arrays over a new safetensors file, which takes its name when the block ends without an error."""
    if sum(shape[0] for _, shape in shapes.values()) >= 2**31:
        raise BadSettings("more than two thousand million places: let the teacher stay in memory (--teacher_top 0).")
    header: dict[str, Any] = {"__metadata__": {_KEY: key}}
    end = 0
    for name, (dtype, shape) in shapes.items():
        size = int(np.prod(shape)) * np.dtype(_DTYPES[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with files.atomic(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
        file.flush()
        parts = _mapped(file, "r+", header, 8 + len(text))
        yield parts
        for part in parts.values():
            part.flush()  # type: ignore[attr-defined]  # arrays over a file


def _mapped(file: Any, mode: Any, header: Mapping[str, Any], begin: int) -> dict[str, Array]:
    return {
        name: np.memmap(file, _DTYPES[one["dtype"]], mode, begin + one["data_offsets"][0], tuple(one["shape"]))
        for name, one in header.items() if name != "__metadata__"
    }  # fmt: skip


def _header(path: Path) -> tuple[dict[str, Any], int]:
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header: dict[str, Any] = json.loads(file.read(size))
    return header, 8 + size


def _key_of(path: Path) -> str | None:
    """What a file was made from; None where there is none, or one that cannot be read."""
    try:
        header, begin = _header(path)
        end = max((one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"), default=0)
        return str(header["__metadata__"][_KEY]) if path.stat().st_size == begin + end else None
    except (OSError, ValueError, KeyError, struct.error, TypeError):
        return None
