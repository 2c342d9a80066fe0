"""What making a model smaller cost, on text that it has not seen: two computations of every next token, side by side.

Both models read the same windows of the same texts, so that a small difference is not hidden by how hard a text is. Errors are
over stretches of text (metrics/interval.py). N tokens, V vocabulary.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danlu.core import log
from danlu.engine.model import Model
from danlu.engine.work import Piece, Runner
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


Forward = Callable[[Tensor, int], Tensor]
"""Token ids (T,) and the first place asked for to the logits of the token after each from there on, (T - first, V)."""


def changes(before: Model, others: Sequence[Forward], ids: Sequence[int], window: int) -> list[Change]:
    """Compare a model with others of its vocabulary on a text; each window but the first scores its last half.

    The text's first token counts as foreseen equally by all where the tokenizer has no token that begins a document.
    """
    begin = before.tokenizer.bos_id
    line = torch.tensor([*([] if begin is None else [begin]), *ids])
    skipped = len(ids) - (len(line) - 1)
    even, whole = math.log(before.model.vocab_size), through_model(before)
    found = [Change(np.full(len(ids), even), np.full(len(ids), even), np.zeros(len(ids)), np.ones(len(ids))) for _ in others]
    for start, end, first in spans(len(line) - 1, window, max(1, window // 2)):
        targets_N, given = line[first + 1 : end + 1], (line[start:end], first - start)
        old_NV = whole(*given).double().log_softmax(-1)
        part = slice(skipped + first, skipped + end)
        for one, other in zip(found, others, strict=True):
            new_NV = other(*given).double().log_softmax(-1)
            one.before[part], one.after[part] = (
                -log_NV.gather(1, targets_N[:, None])[:, 0].numpy() for log_NV in (old_NV, new_NV)
            )
            one.divergence[part] = (old_NV.exp() * (old_NV - new_NV)).sum(-1).clamp(min=0).numpy()
            one.same[part] = (old_NV.argmax(-1) == new_NV.argmax(-1)).numpy()
    return found


def through_model(model: Model) -> Forward:
    """The torch module itself."""

    @torch.inference_mode()
    def forward(ids_T: Tensor, first: int) -> Tensor:
        hidden = model.model.hidden(ids_T[None].to(model.model.device))[0, first:]
        return model.model.logits(hidden).float().cpu()

    return forward


def through_runner(runner: Runner) -> Forward:
    """What serves the model."""

    def forward(ids_T: Tensor, first: int) -> Tensor:
        blocks = np.arange(-(-len(ids_T) // runner.block_tokens) if runner.block_tokens else 0, dtype=np.int32)
        (logits,) = runner.run([Piece(0, ids_T.numpy(), 0, blocks, len(ids_T) - first)])
        runner.forget(0)
        return torch.from_numpy(logits)

    return forward


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


def receipts(before: Model, others: Mapping[str, Forward], texts: Sequence[Text], most_tokens: int) -> dict[str, dict[str, Any]]:
    """Read texts in order, up to `most_tokens` in all, and compare each of `others` with the model as it was."""
    taken = _up_to(before, texts, most_tokens)
    width = block_bytes([text for text, _ in taken])
    found = {name: Receipt() for name in others}
    with log.progress("compare on held-out text", total=sum(len(ids) for _, ids in taken), unit="tokens") as bar:
        for text, ids in taken:
            sizes = np.array([len(before.tokenizer.token_bytes(token)) for token in ids])
            for one, change in zip(found.values(), changes(before, list(others.values()), ids, before.context), strict=True):
                one.add(text, ids, sizes, width, change)
            bar.advance(len(ids))
    return {name: one.figures() for name, one in found.items()}


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
