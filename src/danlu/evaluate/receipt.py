"""What making a model smaller cost, on text that it has not seen: two computations of every next token, side by side.

Both models read the same windows of the same texts, so that a small difference is not hidden by how hard a text is. Errors are
over stretches of text (metrics/interval.py). N tokens, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.core import log
from danlu.engine.model import Model
from danlu.evaluate.text import Text, block_bytes, spans, stretches
from danlu.metrics.interval import Estimate, paired_difference, ratio
from danlu.metrics.perplexity import perplexity, perplexity_error


@dataclass
class Change:
    """What became of each token of a text, (N,) each, in nats where not said otherwise."""

    before: np.ndarray
    """Surprise under the model as it was."""
    after: np.ndarray
    divergence: np.ndarray
    """Kullback-Leibler divergence of the next token's distribution from what it was."""
    same: np.ndarray
    """1 where both hold the same token the likeliest."""


@torch.inference_mode()
def change(before: Model, after: Model, ids: Sequence[int], window: int) -> Change:
    """Compare two models of one vocabulary on a text; each window but the first scores its last half.

    The text's first token counts as foreseen equally by both where the tokenizer has no token that begins a document.
    """
    begin = before.tokenizer.bos_id
    line = torch.tensor([*([] if begin is None else [begin]), *ids])
    skipped = len(ids) - (len(line) - 1)
    even = math.log(before.model.vocab_size)
    found = Change(np.full(len(ids), even), np.full(len(ids), even), np.zeros(len(ids)), np.ones(len(ids)))
    for start, end, first in spans(len(line) - 1, window, max(1, window // 2)):
        targets = line[first + 1 : end + 1]
        old, new = (_log_probabilities(model, line[start:end], first - start) for model in (before, after))
        part = slice(skipped + first, skipped + end)
        found.before[part], found.after[part] = (-log_NV.gather(1, targets[:, None])[:, 0].numpy() for log_NV in (old, new))
        found.divergence[part] = (old.exp() * (old - new)).sum(-1).clamp(min=0).numpy()
        found.same[part] = (old.argmax(-1) == new.argmax(-1)).numpy()
    return found


def _log_probabilities(model: Model, ids_T: Tensor, first: int) -> Tensor:
    """Of the token after each from `first` on, float64 (N, V)."""
    hidden = model.model.hidden(ids_T[None].to(model.model.device))[0, first:]
    log_NV: Tensor = model.model.logits(hidden).double().log_softmax(-1).cpu()
    return log_NV


@dataclass
class Receipt:
    """The figures of a change over several texts; the `block` columns, (C,) each, are of the same stretches of text."""

    names: list[str] = field(default_factory=list)
    tokens: int = 0
    bytes: int = 0
    block_bytes: list[np.ndarray] = field(default_factory=list)
    block_tokens: list[np.ndarray] = field(default_factory=list)
    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, text: Text, ids: Sequence[int], sizes: np.ndarray, width: int, found: Change) -> None:
        """Take in a text: its tokens, their lengths in bytes, the length of a stretch, and what became of them."""
        self.names.append(text.name)
        self.tokens, self.bytes = self.tokens + len(ids), self.bytes + text.bytes
        for name, values in vars(found).items():
            sums, lengths, tokens, _ = stretches(values, sizes, text, width)
            self.columns.setdefault(name, []).append(sums)
        self.block_bytes.append(lengths)
        self.block_tokens.append(tokens)

    def figures(self) -> dict[str, Any]:
        """Everything there is to say, each figure with its error."""
        column = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        in_bytes, in_tokens = np.concatenate(self.block_bytes), np.concatenate(self.block_tokens).astype(float)
        bits = {name: column[name] / math.log(2) for name in ("before", "after")}
        nats = paired_difference(column["after"], column["before"], in_tokens)
        times = Estimate(_exp(nats.value), _exp(nats.value) * nats.standard_error, _exp(nats.low), _exp(nats.high))
        return {
            "tokens": self.tokens, "bytes": self.bytes, "blocks": len(in_bytes), "texts": len(self.names),
            "bits_per_byte_before": _said(ratio(bits["before"], in_bytes)),
            "bits_per_byte_after": _said(ratio(bits["after"], in_bytes)),
            "bits_per_byte_change": _said(paired_difference(bits["after"], bits["before"], in_bytes)),
            "perplexity_before": perplexity(float(column["before"].sum()), self.tokens),
            "perplexity_before_error": _known(perplexity_error(column["before"], in_tokens)),
            "perplexity_after": perplexity(float(column["after"].sum()), self.tokens),
            "perplexity_after_error": _known(perplexity_error(column["after"], in_tokens)),
            "perplexity_ratio": _said(times),
            "divergence": _said(ratio(column["divergence"], in_tokens)),
            "top1_agreement": _said(ratio(column["same"], in_tokens)),
        }  # fmt: skip


def receipt(before: Model, after: Model, texts: Sequence[Text], most_tokens: int) -> dict[str, Any]:
    """Read texts in order, up to `most_tokens` in all, and compare."""
    taken = _up_to(before, texts, most_tokens)
    width = block_bytes([text for text, _ in taken])
    found, window = Receipt(), min(before.context, after.context)
    with log.progress("compare on held-out text", total=sum(len(ids) for _, ids in taken), unit="tokens") as bar:
        for text, ids in taken:
            sizes = np.array([len(before.tokenizer.token_bytes(token)) for token in ids])
            found.add(text, ids, sizes, width, change(before, after, ids, window))
            bar.advance(len(ids))
    return found.figures()


def _up_to(model: Model, texts: Sequence[Text], most: int) -> list[tuple[Text, list[int]]]:
    """Texts with their tokens; the last is cut where `most` tokens are full, between characters."""
    found: list[tuple[Text, list[int]]] = []
    left = most
    for text in texts:
        piece, ids = text, model.tokenizer.encode(text.text)
        if cut := len(ids) > left:
            decoder = model.tokenizer.decoder()
            piece = Text(text.name, "".join(decoder.push(token) for token in ids[:left]))
            ids = model.tokenizer.encode(piece.text)
        if ids:
            found.append((piece, ids))
        left -= len(ids)
        if cut or not left:
            break
    return found


def _said(estimate: Estimate) -> dict[str, float | None]:
    """As plain numbers; what one stretch of text alone cannot say is None."""
    return {name: _known(value) for name, value in vars(estimate).items()}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0)) if not math.isnan(value) else value
