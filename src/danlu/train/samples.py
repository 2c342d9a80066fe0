"""Labelled samples as batches: which samples a step trains on, packed whole into rows.

Step s takes the samples [s S, (s + 1) S) of an endless stream in which each epoch is a permutation of all samples, a pure
function of (seed, epoch). However many processes share a step, and however its samples fall into rows, they stay the same.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from danlu.core import log
from danlu.core.errors import BadInput, BadSettings, DatasetTooSmall
from danlu.core.labels import NO_LABEL
from danlu.core.seeds import derive
from danlu.data.shards import Document
from danlu.models.heads import texts_in_rows
from danlu.objectives.base import Batch
from danlu.objectives.contrast import joined
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Labelled, Overlong, SampleRow, TooLong, Useless

Array = NDArray[Any]


@dataclass
class Samples:
    """The samples of one split, encoded; a split one counts as several. Held in memory."""

    encoded: list[Encoded] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Where each came from, for messages."""
    ledger: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("samples", "dropped", "truncated", "split", "parts"), 0)
    )

    def __len__(self) -> int:
        return len(self.encoded)

    @functools.cached_property
    def lengths(self) -> Array:
        """Tokens of each."""
        return np.array([len(one.ids) for one in self.encoded], np.int64)

    @functools.cached_property
    def groups(self) -> Array:
        """The target of each, where it has one."""
        return np.array([int(one.targets.max()) for one in self.encoded], np.int64)

    def origin(self, index: int) -> str:
        """File, line and id of a sample."""
        return self.places[index]


def read(documents: Iterable[Document], total: int, objective: Labelled, frame: Frame, overlong: Overlong) -> Samples:
    """Encode a split. Raises BadInput for the first sample that is too long, where that is not allowed for."""
    if overlong == "split" and not objective.splits:
        raise BadSettings(
            f"--overlong split: a label of --objective.name {objective.config.name} belongs to the whole text, so parts of it "
            f"would be labelled wrongly. Say drop or truncate."
        )
    found = Samples()
    with log.progress("encode samples", total=total, unit="samples") as bar:
        for document in documents:
            bar.advance(1)
            _add(found, document, objective, frame, overlong)
    found.encoded = objective.complete(found.encoded)
    if told := {name: amount for name, amount in found.ledger.items() if amount and name not in ("samples", "parts")}:
        said = ", ".join(f"{amount:,} {name.replace('_', ' ')}" for name, amount in told.items())
        log.say(f"of {found.ledger['samples']:,} samples: {said}")
    return found


def _add(found: Samples, document: Document, objective: Labelled, frame: Frame, overlong: Overlong) -> None:
    try:
        parts = objective.encode(document, frame, overlong)
    except TooLong as long:
        if overlong != "drop":
            raise BadInput(
                f"{document.path}:{document.line} (document {document.id}): the sample has {long.tokens} tokens, and this model "
                f"sees {frame.most} at once. Say --overlong drop{', truncate or split' if objective.splits else ' or truncate'} "
                f"(all are counted in the ledger), or take a model with a longer context."
            ) from None
        parts = []
    except Useless as why:
        found.ledger[why.reason] = found.ledger.get(why.reason, 0) + 1
        parts = []
    counted = {"samples": 1, "dropped": not parts, "truncated": any(part.cut for part in parts), "split": len(parts) > 1,
               "parts": len(parts)}  # fmt: skip
    for name, amount in counted.items():
        found.ledger[name] += int(amount)
    found.encoded += parts
    found.places += [f"{document.path}:{document.line} (document {document.id})"] * len(parts)


@dataclass(frozen=True)
class _Origins:
    """What the rest of training asks of a packer."""

    row_tokens: int
    tokens: Samples
    seed: int


@dataclass(frozen=True)
class SampleBatches:
    """The micro-batches of one process. size_of_step: S samples over all processes. micro_tokens: most tokens at once."""

    samples: Samples
    objective: Labelled
    size_of_step: int
    row_tokens: int
    micro_tokens: int
    seed: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if len(self.samples) < 2:
            raise DatasetTooSmall(f"the dataset gives {len(self.samples)} sample(s) to train on. Add some.")
        if self.size_of_step < self.processes:
            raise BadSettings(f"a step has {self.size_of_step} samples, and {self.processes} processes share it. Set --batch "
                              f"{self.processes} or more.")  # fmt: skip
        object.__setattr__(self, "_order", functools.lru_cache(maxsize=2)(self._make_order))

    @property
    def packer(self) -> _Origins:
        """The samples, under the name by which blame looks for them."""
        return _Origins(self.row_tokens, self.samples, self.seed)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every sample is seen once."""
        return len(self.samples) / self.size_of_step

    def step(self, step: int) -> list[Batch]:
        """This process's share of a step, in order."""
        return [self.batch(part) for part in self._shares(step)[self.rank]]

    def numbers(self, step: int) -> list[tuple[int, int]]:
        """The samples of a step: (sample, its partner, or -1)."""
        found = []
        for number in range(step * self.size_of_step, (step + 1) * self.size_of_step):
            epoch, place = divmod(number, len(self.samples))
            order, partners = self._order(epoch)  # type: ignore[attr-defined]
            sample = int(order[place])
            found.append((sample, -1 if partners is None else int(partners[sample])))
        return found

    def batch(self, numbers: Sequence[tuple[int, int]]) -> Batch:
        """Samples side by side in as few rows as they need."""
        return pack(self.objective, [(sample, self._whole(sample, partner)) for sample, partner in numbers], self.row_tokens)

    def _whole(self, sample: int, partner: int) -> Encoded:
        alone = self.samples.encoded[sample]
        return alone if partner < 0 else joined([alone, self.samples.encoded[partner]])

    def _shares(self, step: int) -> list[list[list[tuple[int, int]]]]:
        """Each process's micro-batches, equally many for each."""
        numbers = self.numbers(step)
        bounds = np.linspace(0, len(numbers), self.processes + 1).astype(int)
        shares = [numbers[start:end] for start, end in pairwise(bounds)]
        if self.objective.whole_step:
            return [[share] for share in shares]
        most = max(sum(int(self.samples.lengths[sample]) for sample, _ in share) for share in shares)
        count = min(-(-most // self.micro_tokens), min(map(len, shares)))
        return [[share[at::count] for at in range(count)] for share in shares]

    def _make_order(self, epoch: int) -> tuple[Array, Array | None]:
        order = np.random.default_rng(derive(self.seed, "samples", epoch)).permutation(len(self.samples))
        return order, self.objective.partners(self.samples.groups, epoch, self.seed)


def in_order(samples: Samples, objective: Labelled, size: int, row_tokens: int) -> Iterator[Batch]:
    """All samples once, in batches of `size`, for judging."""
    partners = objective.partners(samples.groups, 0, 0)
    for start in range(0, len(samples), size):
        these = range(start, min(start + size, len(samples)))
        alone = [samples.encoded[at] for at in these]
        whole = alone if partners is None else [joined([samples.encoded[at], samples.encoded[partners[at]]]) for at in these]
        yield pack(objective, list(zip(these, whole, strict=True)), row_tokens)


def pack(objective: Labelled, parts: Sequence[tuple[int, Encoded]], row_tokens: int) -> Batch:
    """Samples with their numbers, whole, in rows of one length; the rest of a row is a document that asks for nothing."""
    lengths = [len(part.ids) for _, part in parts]
    rows = texts_in_rows(lengths, max(row_tokens, *lengths))
    width = max(sum(lengths[at] for at in row) for row in rows)
    return objective.batch([_row([parts[at] for at in sorted(row)], width) for row in rows], [0] * len(rows))


def _row(parts: Sequence[tuple[int, Encoded]], width: int) -> SampleRow:
    ids, targets = np.zeros(width, np.int64), np.full(width, NO_LABEL, np.int64)
    values, documents = np.zeros(width, np.float32), np.zeros(width, np.int32)
    origin: list[tuple[int, int, int]] = []
    at = 0
    for number, part in parts:
        here = slice(at, at + len(part.ids))
        ids[here], targets[here], values[here] = part.ids, part.targets, part.values
        documents[here] = part.documents + len(origin)
        origin += [(number, 0, int((part.documents == text).sum())) for text in range(int(part.documents[-1]) + 1)]
        at = here.stop
    documents[at:] = len(origin)
    return SampleRow(ids, targets, documents, np.array(origin, np.int64), values)
