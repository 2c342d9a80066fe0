"""Embeddings by contrast: each text must be nearer to its partner than to the batch's other texts (InfoNCE, arXiv:1807.03748).

Partners are pairs of the dataset, or texts of one label. Texts of a batch that belong together by label or text are no
negatives. With several lengths (Matryoshka, arXiv:2205.13147) the loss is the mean over the first numbers of the vectors.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from danlu.core.seeds import derive
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Array, Encoded, Labelled, Overlong, need, ordered, place_at, text_ids


@OBJECTIVES.register
class Contrast(Labelled):
    """Vectors whose nearness means likeness, for search and clustering. A step's samples are each other's negatives."""

    task = "embed"
    columns = (("query", "positive"), ("label",))
    whole_step = True
    texts = 2

    class Config(Named):
        name: Literal["contrast"] = "contrast"  # type: ignore[assignment]  # narrows
        temperature: float = Field(0.05, gt=0)
        """What cosines are divided by: smaller looks harder at the nearest."""
        pooling: Literal["mean", "last", "first"] = "mean"
        """Which vector stands for a text: the mean of its tokens', or one of them."""
        dims: list[int] = Field([])
        """Further, shorter lengths of the vector that shall work by themselves, as in `64 128`."""
        both_ways: bool = True
        """Also let each partner find its text."""

    def learn(self, documents: Iterable[Document]) -> dict[str, Any]:
        seen = [document.sample for document in documents]
        self.by_label = bool(seen) and "label" in seen[0]
        names = [sample["label"] if self.by_label else sample["positive"] for sample in seen]
        groups = ordered(names)
        need(groups, 2, "label" if self.by_label else "text")
        self.groups = {name: place for place, name in enumerate(groups)}
        return {"pooling": self.config.pooling, "dims": self.config.dims}

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        sample, first = document.sample, self.config.pooling == "first"
        if self.by_label:
            ids, cut = text_ids(document.text, frame, overlong)
            return [place_at(ids, first, self.groups[sample["label"]], 1.0, cut)]
        texts = [text_ids(sample[name], frame, overlong) for name in ("query", "positive")]
        cut = any(one for _, one in texts)
        group = self.groups[sample["positive"]]
        return [joined([place_at(ids, first, group, 1.0, cut) for ids, _ in texts])]

    def partners(self, groups: Array, epoch: int, seed: int) -> Array | None:
        """Each text's partner is another of its label, a new one each epoch; itself where it is alone."""
        return rings(groups, derive(seed, "partners", epoch)) if self.by_label else None

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        marked_BT = batch.values > 0  # type: ignore[attr-defined]
        vectors_ND = model.pooled(batch.ids, batch.documents, marked_BT).float()
        if len(vectors_ND) % 2:  # a text without its partner, as when one document is looked at alone
            return vectors_ND.sum() * 0.0
        group_N = batch.targets[marked_BT][::2]
        dims = sorted({*self.config.dims, vectors_ND.size(1)})
        losses = [info_nce(vectors_ND[::2, :dim], vectors_ND[1::2, :dim], group_N, self.config.temperature) for dim in dims]
        if self.config.both_ways:
            back = [info_nce(vectors_ND[1::2, :dim], vectors_ND[::2, :dim], group_N, self.config.temperature) for dim in dims]
            losses = [(one + two) / 2 for one, two in zip(losses, back, strict=True)]
        return torch.stack(losses).mean() * 2  # a pair counts two targets, one for each text


def info_nce(query_ND: Tensor, key_ND: Tensor, group_N: Tensor, temperature: float) -> Tensor:
    """Sum over queries of -log softmax(cosine / temperature)[own key]; other keys of the same group are left out."""
    cosine_NN = F.normalize(query_ND, dim=-1) @ F.normalize(key_ND, dim=-1).T
    own_NN = torch.eye(len(group_N), dtype=torch.bool, device=group_N.device)
    akin_NN = (group_N[:, None] == group_N) & ~own_NN
    scores_NN = (cosine_NN / temperature).masked_fill(akin_NN, float("-inf"))
    return F.cross_entropy(scores_NN, torch.arange(len(group_N), device=group_N.device), reduction="sum")


def joined(texts: Sequence[Encoded]) -> Encoded:
    """Several texts as one sample, each a document of its own."""
    columns = {name: np.concatenate([getattr(text, name) for text in texts]) for name in ("ids", "targets", "values")}
    documents = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text.ids) for text in texts])
    return Encoded(**columns, documents=documents, cut=any(text.cut for text in texts))


def rings(groups: Array, seed: int) -> Array:
    """For each sample another of the same group: the groups are shuffled, and each points at the next of its own.

    >>> found = rings(np.array([0, 1, 0, 0, 1, 2]), seed=3)
    >>> bool((np.array([0, 1, 0, 0, 1, 2])[found] == [0, 1, 0, 0, 1, 2]).all()), int(found[5])
    (True, 5)
    """
    random, found = np.random.default_rng(seed), np.arange(len(groups))
    for group in np.unique(groups):
        mine = random.permutation(np.flatnonzero(groups == group))
        found[mine] = np.roll(mine, -1)
    return found
