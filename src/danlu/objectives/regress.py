"""Regression on whole texts: the squared distance of a score and a number, in standard deviations of the samples' numbers."""

import math
import statistics
from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor

from danlu.core.errors import BadInput, BadSettings
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Labelled, Overlong, place_at, text_ids


@OBJECTIVES.register
class Regress(Labelled):
    """A number, as in a rating. The numbers' mean and deviation are kept in the model's folder."""

    task = "regress"
    columns = (("label",),)

    class Config(Named):
        name: Literal["regress"] = "regress"  # type: ignore[assignment]  # narrows

    def learn(self, documents: Iterable[Document]) -> dict[str, Any]:
        numbers = [number_of(document) for document in documents]
        self.mean, self.deviation = statistics.fmean(numbers), statistics.pstdev(numbers)
        if not self.deviation:
            raise BadSettings(f"every sample has the number {self.mean:g}, so there is nothing to learn.")
        return {"mean": self.mean, "deviation": self.deviation, "pooling": "mean"}

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        ids, cut = text_ids(document.text, frame, overlong)
        return [place_at(ids, frame.first, 0, (number_of(document) - self.mean) / self.deviation, cut)]

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        marked_BT = batch.targets != NO_LABEL
        score_N = model.scores(model.pooled(batch.ids, batch.documents, marked_BT))[:, 0]
        distance: Tensor = (score_N - batch.values[marked_BT]).square().sum()  # type: ignore[attr-defined]
        return distance


def number_of(document: Document) -> float:
    """A sample's label as a finite number. Raises BadInput."""
    try:
        value = float(document.sample["label"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{document.path}:{document.line}: the label {document.sample['label']!r} is no number. "
                       f"For class names say --objective.name classify.")  # fmt: skip
    return value
