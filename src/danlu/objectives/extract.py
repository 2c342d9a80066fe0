"""Extraction: where in a context the answer begins and ends, each a choice among the tokens (BERT, arXiv:1810.04805, 4.2).

The loss of a sample is the mean of the two negative log-likelihoods. A context without the answer points at the first token.
"""

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame, Reading
from danlu.objectives.labelled import Encoded, Labelled, Overlong, TooLong, place_at


@OBJECTIVES.register
class Extract(Labelled):
    """Answers that stand in the text. Of several answers the first is learned."""

    task = "extract"
    columns = (("question", "context", "answers"),)
    splits = True

    class Config(Named):
        name: Literal["extract"] = "extract"  # type: ignore[assignment]  # narrows

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        sample = document.sample
        readings = frame.readings(sample["question"], sample["context"])
        if not readings or (len(readings) > 1 and overlong not in ("split", "truncate")):
            whole = frame.framed(frame.tokenizer.encode(document.text))
            raise TooLong(max(len(whole), frame.most + 1))
        cut = len(readings) > 1 and overlong == "truncate"
        found = []
        for reading in readings[:1] if cut else readings:
            start, end = place_of(sample["answers"], reading)
            found.append(place_at(reading.ids, True, start, end, cut))
        return found

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        marked_BT = batch.targets != NO_LABEL
        rows_N, first_N = marked_BT.nonzero(as_tuple=True)
        scores_NT2 = model.scores(model.hidden(batch.ids, batch.documents))[rows_N]
        if batch.documents is not None:
            mine_NT = batch.documents[rows_N] == batch.documents[rows_N, first_N][:, None]
            scores_NT2 = scores_NT2.masked_fill(~mine_NT[..., None], float("-inf"))
        start_N = first_N + batch.targets[marked_BT]
        end_N = first_N + batch.values[marked_BT].long()  # type: ignore[attr-defined]
        starts, ends = scores_NT2.unbind(-1)
        return (F.cross_entropy(starts, start_N, reduction="sum") + F.cross_entropy(ends, end_N, reduction="sum")) / 2


def place_of(answers: list[dict[str, Any]], reading: Reading) -> tuple[int, int]:
    """First and last token of the first answer in a part of its context; (0, 0) where it does not stand there whole."""
    if not answers or not len(reading.bounds):
        return 0, 0
    begin = answers[0]["start"]
    end = begin + len(answers[0]["text"])
    if begin < reading.bounds[0, 0] or end > reading.bounds[-1, 1]:
        return 0, 0
    first = int((reading.bounds[:, 1] <= begin).sum())  # the first token that reaches beyond the answer's first character
    last = len(reading.bounds) - 1 - int((reading.bounds[::-1, 0] >= end).sum())
    return reading.first + first, reading.first + last
