"""Tagging: the negative log-likelihood of each word's tag, read off at the word's first token."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Labelled, Overlong, TooLong, index_of, need, ordered


@OBJECTIVES.register
class Tag(Labelled):
    """Named entities, parts of speech, word boundaries."""

    task = "tag"
    columns = (("words", "tags"),)
    splits = True
    unit = "word"

    class Config(Named):
        name: Literal["tag"] = "tag"  # type: ignore[assignment]  # narrows

    def learn(self, documents: Iterable[Document]) -> dict[str, Any]:
        self.labels = ordered({tag for document in documents for tag in document.sample["tags"]})
        need(self.labels, 2, "tag")
        return {"labels": self.labels}

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        words, tags = frame.words(document.sample["words"]), document.sample["tags"]
        sizes = [len(word) for word in words]
        parts = frame.parts(sizes)
        longest = max(sum(sizes[start:end]) for start, end in parts)
        if longest > frame.room or (len(parts) > 1 and overlong not in ("split", "truncate")):
            raise TooLong(sum(sizes) + frame.most - frame.room)
        cut = len(parts) > 1 and overlong == "truncate"
        kept = parts[:1] if cut else parts
        return [self._part(words[start:end], tags[start:end], document, frame, cut) for start, end in kept]

    def _part(self, words: list[list[int]], tags: list[str], document: Document, frame: Frame, cut: bool) -> Encoded:
        ids = frame.framed([token for word in words for token in word])
        targets, at = np.full(len(ids), NO_LABEL, np.int64), len(frame.begin)
        for word, tag in zip(words, tags, strict=True):
            targets[at] = index_of(tag, self.labels, document, "tag")
            at += len(word)
        zeros = np.zeros(len(ids), np.float32)
        return Encoded(np.array(ids, np.int64), targets, zeros, zeros.astype(np.int32), cut)

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        marked_BT = batch.targets != NO_LABEL
        scores_NC = model.scores(model.hidden(batch.ids, batch.documents)[marked_BT])
        return self.named(scores_NC, batch.targets[marked_BT])
