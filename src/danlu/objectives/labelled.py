"""What objectives over labelled samples share: samples become tokens with a target at the place where the head looks.

A sample's target stands at one of its tokens (classes, numbers, pairs), at the first token of every word (tags), or at its
first token with the answer's place as its value (spans). So packing, counting and blame work as for any text.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from danlu.core.errors import BadInput, BadSettings
from danlu.core.labels import NO_LABEL
from danlu.data.pack import Row
from danlu.data.shards import Document
from danlu.objectives.base import Batch, Objective, side_by_side
from danlu.objectives.frame import Frame

Array = NDArray[Any]
Overlong = Literal["raise", "drop", "truncate", "split"]


class TooLong(Exception):
    """A sample of so many tokens."""

    def __init__(self, tokens: int):
        self.tokens = tokens


class Useless(Exception):
    """A sample that nothing can be learned from; `reason` is its name in the ledger."""

    def __init__(self, reason: str):
        self.reason = reason


@dataclass(frozen=True)
class Encoded:
    """A sample, or a part of one, as tokens, (T,) each."""

    ids: Array
    targets: Array
    """What is asked at each token; -100: nothing."""
    values: Array
    """A number beside it; 0 where the objective needs none."""
    documents: Array
    """Counts the texts of the sample from 0."""
    cut: bool = False
    """Whether tokens were cut off."""


@dataclass(frozen=True)
class SampleRow(Row):
    """A row of whole samples; `origin` is (samples' texts, 3): sample, 0, tokens."""

    values: Array


@dataclass
class LabelledBatch(Batch):
    """A batch with a number beside each target."""

    values: Tensor | None = None
    """(B, T) float32."""


class Labelled(Objective):
    """Base of the objectives over labelled samples, which `danlu finetune` offers."""

    kind = "model with a head"
    family = ""
    of_text = False
    unit = "sample"

    _figures: dict[str, float] = {}  # noqa: RUF012  # replaced, never changed

    task: ClassVar[str | None]
    """The head that it trains (models/heads.py); None: the model keeps the one that predicts words."""
    stage: ClassVar[str] = "finetune"
    """The command that offers it: finetune or align."""
    online: ClassVar[bool] = False
    """Whether it learns from what the model itself answers while it trains."""
    columns: ClassVar[tuple[tuple[str, ...], ...]]
    """Columns of a dataset that it can learn from: any one of these sets."""
    splits: ClassVar[bool] = False
    """Whether a long sample may be split without changing what its labels mean."""
    texts: ClassVar[int] = 1
    """Texts of a sample that stand in one row."""
    whole_step: ClassVar[bool] = False
    """Whether a step must be computed at once, because its samples depend on one another."""

    pace: ClassVar[float] = 1.0
    """Peak rate that suits it, in shares of what suits supervised fine-tuning (train/tune.py)."""

    def learn(self, documents: Iterable[Document]) -> dict[str, Any]:
        """Look through all samples once; what the head's settings become (heads.HeadConfig). Raises BadInput, BadSettings."""
        return {}

    @abstractmethod
    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        """A sample as tokens that fit the frame, in parts where it was split. Raises TooLong, Useless, BadInput."""

    def complete(self, encoded: Sequence[Encoded]) -> list[Encoded]:
        """The samples of a split once all are encoded; others where samples lend one another parts."""
        return list(encoded)

    def partners(self, groups: Array, epoch: int, seed: int) -> Array | None:
        """For each sample the one that stands behind it in an epoch, given the samples' targets; None: each stands alone."""
        return None

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        values = torch.from_numpy(np.stack([row.values for row in rows]))  # type: ignore[attr-defined]  # rows of samples
        read = torch.tensor([int(row.origin[:, 2].sum()) for row in rows])
        return LabelledBatch(**{**vars(side_by_side(rows)), "read": read, "values": values})

    def named(self, scores_NC: Tensor, targets_N: Tensor) -> Tensor:
        """Sum of the negative log-likelihoods of classes; without gradients also how many are named right."""
        if not torch.is_grad_enabled():
            self._figures = {"accuracy": float((scores_NC.argmax(-1) == targets_N).sum())}
        return F.cross_entropy(scores_NC, targets_N, reduction="sum")

    def figures(self) -> dict[str, float]:
        return self._figures


def place_at(ids: Sequence[int], first: bool, target: float, value: float = 0.0, cut: bool = False) -> Encoded:
    """A text whose target stands at its first or last token."""
    at = 0 if first else len(ids) - 1
    targets, values = np.full(len(ids), NO_LABEL, np.int64), np.zeros(len(ids), np.float32)
    targets[at], values[at] = target, value
    return Encoded(np.array(ids, np.int64), targets, values, np.zeros(len(ids), np.int32), cut)


def text_ids(text: str, frame: Frame, overlong: Overlong) -> tuple[list[int], bool]:
    """A text that fits the frame, and whether its end was cut. Raises TooLong."""
    ids = frame.text(text)
    if len(ids) <= frame.most:
        return ids, False
    if overlong != "truncate":
        raise TooLong(len(ids))
    return frame.framed(frame.tokenizer.encode(text)[: frame.room]), True


def ordered(labels: Iterable[str]) -> list[str]:
    """Labels in the order of their scores: numbers by size, names by alphabet, O first.

    >>> ordered(["10", "9", "-1"]), ordered(["B-X", "O", "A"])
    (['-1', '9', '10'], ['O', 'A', 'B-X'])
    """
    found = sorted(set(labels))
    try:
        return sorted(found, key=float)
    except ValueError:
        return sorted(found, key=lambda label: (label != "O", label))


def index_of(label: str, labels: Sequence[str], document: Document, kind: str) -> int:
    """A label's place. Raises BadInput for one that was never seen."""
    if label not in labels:
        raise BadInput(
            f"{document.path}:{document.line}: {kind} {label!r} is none that the model knows ({', '.join(labels[:9])})."
        )
    return labels.index(label)


def need(labels: Sequence[str], least: int, kind: str) -> None:
    """Raise BadSettings where there is nothing to tell apart."""
    if len(labels) < least:
        raise BadSettings(
            f"the dataset's samples know {len(labels)} {kind}(s) ({', '.join(labels)}); {least} or more are needed to learn from."
        )
