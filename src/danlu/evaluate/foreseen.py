"""Texts that are only foreseen: a continuation behind a context, or a whole text through windows as long as the context.

Figures are lm-eval's: perplexity exp(-mean log-likelihood) of continuations and acc, the share of them that greedy choice would
write; of whole texts word_perplexity (words between white space), byte_perplexity and bits_per_byte.
"""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch

from danlu.core.errors import BadInput
from danlu.evaluate.paired import Better, Figure, mean, of_values
from danlu.evaluate.subject import Likelihood, Subject, plain_logprobs
from danlu.evaluate.text import spans
from danlu.models.base import Seq2SeqLM

CONTINUATION = ("perplexity", "acc")
WHOLE = ("word_perplexity", "byte_perplexity", "bits_per_byte")


def continuation_figure(name: str, found: Sequence[Likelihood]) -> Figure:
    """One figure over continuations."""
    if name == "acc":
        return of_values(name, [float(one.greedy) for one in found])
    parts_N2 = np.array([[one.nats, 1.0] for one in found])
    return Figure(name, parts_N2, lambda sums: np.exp(-mean(sums)), "lower")


def whole_figure(name: str, texts: Sequence[str], nats: Sequence[float]) -> Figure:
    """One figure over whole texts; nats: the log-likelihood of each."""
    words = name == "word_perplexity"
    sizes = [len(re.split(r"\s+", text)) if words else len(text.encode()) for text in texts]
    finish: Callable[[np.ndarray], np.ndarray] = _bits if name == "bits_per_byte" else _perplexity
    better: Better = "lower"
    return Figure(name, np.array([[one, float(size)] for one, size in zip(nats, sizes, strict=True)]), finish, better)


def _bits(sums: np.ndarray) -> np.ndarray:
    return -mean(sums) / math.log(2)


def _perplexity(sums: np.ndarray) -> np.ndarray:
    return np.exp(np.minimum(-mean(sums), 700.0))


def whole_nats(subject: Subject, ids: Sequence[int]) -> float:
    """Log-likelihood of a text after the token that begins one, in nats: each token once, by as much context as there is.

    Windows do not overlap but the last, which is as long as the others. Each is read by itself, whatever else is asked.
    """
    if isinstance(subject.model.model, Seq2SeqLM):
        raise BadInput(f"{subject.model.path} is an encoder-decoder: it foresees no text by itself. Ask it another kind of task.")
    if not ids:
        return 0.0
    line, window, total = [subject.prefix, *ids], subject.context, 0.0
    for start, end, first in spans(len(ids), window, window):
        logp_AV = plain_logprobs(subject.model, line[start : first + 1], line[first + 1 : end + 1])
        wanted = torch.tensor(line[first + 1 : end + 1], device=logp_AV.device)
        total += float(logp_AV.gather(1, wanted[:, None]).double().sum())
    return total
