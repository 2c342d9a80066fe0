"""How well a masked model knows a text: the surprise of each token, hidden by itself, given everything around it.

Pseudo-log-likelihood (Salazar et al. 2020, arXiv:1910.14659, section 2.1). A token of a longer word is half given away by the
rest of it; so a second figure also hides the rest of its word behind it (Kauf & Ivanova 2023, arXiv:2305.10588, section 3).
Both see what follows, so they are no probability of the text: they compare masked models with each other, not with models
that read from left to right. N tokens, R rows, W tokens of a window.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from danlu.core.errors import BadInput
from danlu.engine.fill import around
from danlu.engine.model import Model
from danlu.evaluate.text import Surprise, Text, TextScore, score, window_and_stride
from danlu.models.base import MaskedLM
from danlu.objectives.masked import Words

_BATCH_TOKENS = 1 << 14
ALONE, WORDS = "pseudo", "pseudo, within words"
"""The two kinds of figures, as names of models carry them."""


def scores(
    model: Model, texts: Sequence[Text], name: str, *, window: int | None = None, stride: int | None = None
) -> list[TextScore]:
    """All that is to be said of a model: one score, or the two of a masked model, which are marked in its name."""
    if not isinstance(model.model, MaskedLM):
        return [score(model, texts, name, window=window, stride=stride)]
    both = functools.cache(lambda ids: surprises(model, ids, window, stride))

    def of(which: int, kind: str) -> TextScore:
        return score(model, texts, f"{name} ({kind})", window=window, stride=stride, kind=kind,
                     how=lambda ids: both(tuple(ids))[which])  # fmt: skip

    return [of(0, ALONE), of(1, WORDS)]


def surprises(
    model: Model, ids: Sequence[int], window: int | None = None, stride: int | None = None
) -> tuple[Surprise, Surprise]:
    """Surprise of each token in nats, hidden alone and hidden with the rest of its word.

    Each block of `stride` tokens is read in the middle of a window. Raises BadInput for a tokenizer without a mask token.
    """
    window, stride = window_and_stride(model, window, stride)
    if model.tokenizer.mask_id is None:
        raise BadInput(
            f"{model.path}: its tokenizer has no mask token, so no token can be hidden. Use the one it was trained with."
        )
    begin, end = around(model.tokenizer)
    line, first = np.array([*begin, *ids, *end], np.int64), len(begin)
    ends = word_ends(model, np.asarray(ids, np.int64)) + first
    alone = np.empty(len(ids))
    reaches = _reaches(range(first, first + len(ids)), len(line), window, stride)
    jobs = [(at, at + 1, *reach) for at, reach in enumerate(reaches, first)]
    for (at, *_), nats in zip(jobs, _nats(model, line, jobs), strict=True):
        alone[at - first] = nats
    within = alone.copy()
    longer = [(at, int(ends[at - first]), *reach) for at, _, *reach in jobs if ends[at - first] > at + 1]
    for (at, *_), nats in zip(longer, _nats(model, line, longer), strict=True):
        within[at - first] = nats
    nothing = np.zeros(window), np.zeros(window, np.int64)  # how much a token knew is no matter of its place
    return Surprise(alone, *nothing), Surprise(within, *nothing)


def word_ends(model: Model, ids_N: np.ndarray) -> np.ndarray:
    """Where the word of each token ends, (N,); each Han character is a word."""
    if not len(ids_N):
        return np.zeros(0, np.int64)
    every = np.ones(len(ids_N), bool)
    units = Words(model.tokenizer).units(ids_N, np.zeros_like(ids_N), every, True, "characters", 0)
    return np.cumsum(np.bincount(units))[units]


def _reaches(places: range, length: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """The window (start, end) of each of these places in a line: that in whose middle its block lies."""
    for begin in places[::stride]:
        end = min(begin + stride, places.stop)
        start = max(0, min(begin - (window - (end - begin)) // 2, length - window))
        yield from [(start, min(start + window, length))] * (end - begin)


@torch.inference_mode()
def _nats(model: Model, line: np.ndarray, jobs: Sequence[tuple[int, ...]]) -> Iterator[float]:
    """Of each job (token, end of what is hidden from it on, window's start and end): the surprise of the token."""
    network, device = model.model, model.model.device
    for start in range(0, len(jobs), rows := max(1, _BATCH_TOKENS // max((job[3] - job[2] for job in jobs), default=1))):
        part = jobs[start : start + rows]
        ids_RW = np.stack([line[job[2] : job[3]] for job in part])
        for row, (at, end, left, _) in zip(ids_RW, part, strict=True):
            row[at - left : end - left] = model.tokenizer.mask_id
        places = torch.tensor([job[0] - job[2] for job in part], device=device)
        hidden_RD = network.hidden(torch.from_numpy(ids_RW).to(device))[torch.arange(len(part), device=device), places]
        targets = torch.from_numpy(line[[job[0] for job in part]]).to(device)
        yield from F.cross_entropy(network.logits(hidden_RD).float(), targets, reduction="none").tolist()
