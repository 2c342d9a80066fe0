"""Classification of whole texts: the negative log-likelihood of each text's class."""

from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor

from danlu.core.errors import BadSettings
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Labelled, Overlong, index_of, need, ordered, place_at, text_ids

_MOST_CLASSES = 2000


@OBJECTIVES.register
class Classify(Labelled):
    """One of several classes, as in sentiment or intent."""

    task = "classify"
    columns = (("label",),)

    class Config(Named):
        name: Literal["classify"] = "classify"  # type: ignore[assignment]  # narrows

    def learn(self, documents: Iterable[Document]) -> dict[str, Any]:
        self.labels = ordered(document.sample["label"] for document in documents)
        need(self.labels, 2, "class")
        if len(self.labels) > _MOST_CLASSES:
            raise BadSettings(
                f"the labels name {len(self.labels)} classes, the first {', '.join(self.labels[:5])}. If they are numbers to "
                f"come near to, say --objective.name regress."
            )
        return {"labels": self.labels, "pooling": "mean"}

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        ids, cut = text_ids(document.text, frame, overlong)
        target = index_of(document.sample["label"], self.labels, document, "class")
        return [place_at(ids, frame.first, target, cut=cut)]

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        marked_BT = batch.targets != NO_LABEL
        scores_NC = model.scores(model.pooled(batch.ids, batch.documents, marked_BT))
        return self.named(scores_NC, batch.targets[marked_BT])
