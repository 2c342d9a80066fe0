"""How well a model foresees a text: the surprise of every token, each counted once, however long the text is.

Long texts are read through windows: each sees up to `window` tokens and, but for the first, scores its last `stride` ones.
Special tokens inside a text stay text.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from danlu.core import log
from danlu.core.errors import BadInput, NoUsableText
from danlu.data.decode import Unreadable, decode
from danlu.engine.model import Model
from danlu.metrics.bits_per_byte import bits_per_byte
from danlu.metrics.interval import Estimate, paired_difference, ratio
from danlu.metrics.perplexity import perplexity, perplexity_error, word_starts

_BATCH_LOGITS = 1 << 23  # logits held at once, 32 MB
_BLOCKS, _SMALLEST_BLOCK = 100, 256
_OF_TEXT = ("nats", "bits_per_byte", "perplexity", "standard_error", "low", "high")


@dataclass(frozen=True)
class Text:
    """A text and where it came from."""

    name: str
    text: str

    @property
    def bytes(self) -> int:
        return len(self.text.encode())


def read_texts(paths: Sequence[Path]) -> list[Text]:
    """Text files whole, in any encoding that is recognised. Raises BadInput or NoUsableText naming the file."""
    found = []
    for path in paths:
        try:
            text = decode(path.read_bytes())
        except OSError as error:
            raise BadInput(f"--text {path}: {error.strerror}. Give readable text files.") from None
        except Unreadable as error:
            raise BadInput(f"--text {path}: {error}. Give text files; `danlu prepare` makes text of other kinds.") from None
        if not text.strip():
            raise NoUsableText(f"--text {path} is empty. Give a file with text in it, or leave it out.")
        found.append(Text(str(path), text))
    return found


def spans(targets: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Windows over a text as (start, end, first scored): inputs start..end foresee targets start..end, of which those
    from `first scored` on count.

    >>> list(spans(targets=7, window=4, stride=2))
    [(0, 4, 0), (2, 6, 4), (3, 7, 6)]
    """
    done = 0
    while done < targets:
        end = min(done + (stride if done else window), targets)
        yield max(0, end - window), end, done
        done = end


@dataclass
class Surprise:
    """Surprise of every token of a text in nats, (N,), and the sum and count by how much context a token had, (window,) each."""

    nats: np.ndarray
    by_context: np.ndarray
    context_count: np.ndarray


def surprise(model: Model, ids: Sequence[int], window: int | None = None, stride: int | None = None) -> Surprise:
    """Negative log-likelihood of each token after those before it, in nats.

    A text begins after the tokenizer's first token, as in training; where there is none, the first token of the text has
    nothing to go by and counts as one of V equally likely. Raises BadInput for windows that the model has no room for.
    """
    window, stride = window_and_stride(model, window, stride)
    begin, size = model.tokenizer.bos_id, model.model.vocab_size
    line = np.array([*([] if begin is None else [begin]), *ids], np.int64)
    found = Surprise(np.full(len(ids), math.log(size)), np.zeros(window), np.zeros(window, np.int64))
    first = len(ids) - (len(line) - 1)  # index in `ids` of the first token that is foreseen
    waiting = list(spans(len(line) - 1, window, stride))
    while waiting:
        width = waiting[0][1] - waiting[0][0]
        rows = 1
        while rows < len(waiting) and waiting[rows][1] - waiting[rows][0] == width and (rows + 1) * width * size <= _BATCH_LOGITS:
            rows += 1
        nats_RW = _nats(model, np.stack([line[start : end + 1] for start, end, _ in waiting[:rows]]))
        for (start, end, done), nats in zip(waiting[:rows], nats_RW, strict=True):
            found.nats[first + done : first + end] = nats[done - start :]
            found.by_context[:width] += nats
            found.context_count[:width] += 1
        del waiting[:rows]
    return found


@torch.inference_mode()
def _nats(model: Model, line_RW1: np.ndarray) -> np.ndarray:
    """Rows of W + 1 tokens to the surprise of the last W of each, float64 (R, W)."""
    line = torch.from_numpy(line_RW1).to(model.model.device)
    logits = model.model(line[:, :-1]).float()
    return (
        F.cross_entropy(logits.flatten(0, 1), line[:, 1:].flatten(), reduction="none").view(len(line), -1).double().cpu().numpy()
    )


def window_and_stride(model: Model, window: int | None, stride: int | None) -> tuple[int, int]:
    """The window (the model's context when left out) and the stride (half a window when left out)."""
    window = model.context if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if window > model.context:
        raise BadInput(f"--window {window} is more than the context of {model.path}, {model.context} tokens. Ask for less.")
    if stride > window:
        raise BadInput(f"--stride {stride} is more than the window of {window} tokens, so tokens would be skipped. Ask for less.")
    return window, stride


@dataclass
class TextScore:
    """What one model makes of all texts; the `block_` columns, (C,) each, hold the same stretches of text for every model."""

    name: str
    tokens: int
    words: int
    bytes: int
    nats: float
    window: int
    stride: int
    block_nats: np.ndarray
    block_bytes: np.ndarray
    block_tokens: np.ndarray
    block_words: np.ndarray
    by_context: np.ndarray
    """Mean surprise in nats of a token by how many stood before it in its window, (window,)."""
    excerpt: list[tuple[str, float]]
    """Pieces of the beginning of the first text with their surprise in bits."""
    files: list[dict[str, Any]]
    kind: str = ""
    """How the surprise came about, where not by reading from left to right: such figures are no peers of others."""

    @property
    def bits_per_byte(self) -> Estimate:
        """With the standard error and interval over blocks."""
        return ratio(self.block_nats / math.log(2), self.block_bytes)

    def figures(self) -> dict[str, Any]:
        """Everything that a report says about this model; figures of another kind have names of their own."""
        if not self.kind:
            return self.plain_figures()

        def named(part: dict[str, Any]) -> dict[str, Any]:
            return {f"pseudo_{key}" if key.startswith(_OF_TEXT) else key: value for key, value in part.items()}

        files = [named(file) for file in self.files]
        return {**named(self.plain_figures()), "kind": self.kind, "files": files}

    def plain_figures(self) -> dict[str, Any]:
        """The figures by the same names whatever their kind."""
        bits = self.bits_per_byte
        return {
            "model": self.name, "tokens": self.tokens, "words": self.words, "bytes": self.bytes, "nats": self.nats,
            "bits_per_byte": bits.value, "standard_error": bits.standard_error, "low": bits.low, "high": bits.high,
            "perplexity_by_token": perplexity(self.nats, self.tokens), "perplexity_by_word": perplexity(self.nats, self.words),
            "perplexity_by_token_error": perplexity_error(self.block_nats, self.block_tokens),
            "perplexity_by_word_error": perplexity_error(self.block_nats, self.block_words),
            "bytes_per_token": self.bytes / self.tokens, "window": self.window, "stride": self.stride,
            "blocks": len(self.block_nats), "files": self.files,
        }  # fmt: skip


def score(model: Model, texts: Sequence[Text], name: str, *, window: int | None = None, stride: int | None = None,
          excerpt_tokens: int = 300, kind: str = "",
          how: Callable[[list[int]], Surprise] | None = None) -> TextScore:  # fmt: skip
    """Score all texts with one model; `how` is another way to score the ids of a text, of another `kind`."""
    model.check_foresees()
    window, stride = window_and_stride(model, window, stride)
    how = how or partial(surprise, model, window=window, stride=stride)
    context, width = np.zeros((2, window)), block_bytes(texts)
    blocks: list[tuple[np.ndarray, ...]] = []
    excerpt: list[tuple[str, float]] = []
    files: list[dict[str, Any]] = []
    with log.progress(f"score with {name}", total=sum(text.bytes for text in texts), unit="bytes") as bar:
        for text in texts:
            ids = model.tokenizer.encode(text.text)
            if model.tokenizer.decode(ids) != text.text:
                log.warn(f"{name}: its tokenizer cannot write {text.name} exactly, so bits per byte flatter this model")
            found = how(ids)
            sizes = np.array([len(model.tokenizer.token_bytes(token)) for token in ids])
            blocks.append(stretches(found.nats, sizes, text, width))
            context += [found.by_context, found.context_count]
            excerpt = excerpt or pieces(model, ids[:excerpt_tokens], found.nats)
            nats = float(found.nats.sum())
            files.append({"file": text.name, "bytes": text.bytes, "tokens": len(ids), "nats": nats,
                          "bits_per_byte": bits_per_byte(nats, text.bytes)})  # fmt: skip
            bar.advance(text.bytes)
    nats_C, bytes_C, tokens_C, words_C = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return TextScore(
        name=name, tokens=sum(file["tokens"] for file in files), words=int(words_C.sum()),
        bytes=sum(text.bytes for text in texts), nats=sum(file["nats"] for file in files), window=window, stride=stride,
        block_nats=nats_C, block_bytes=bytes_C, block_tokens=tokens_C, block_words=words_C,
        by_context=context[0] / np.maximum(context[1], 1), excerpt=excerpt, files=files, kind=kind,
    )  # fmt: skip


def compare(first: TextScore, second: TextScore) -> Estimate:
    """Bits per byte of the first minus the second, paired over the same blocks of text: below zero, the first is better."""
    return paired_difference(first.block_nats / math.log(2), second.block_nats / math.log(2), first.block_bytes)


def block_bytes(texts: Sequence[Text]) -> int:
    """Length of the stretches taken as independent: about a hundred of them, none below 256 bytes."""
    return max(_SMALLEST_BLOCK, sum(text.bytes for text in texts) // _BLOCKS)


def stretches(nats: np.ndarray, sizes: np.ndarray, text: Text, width: int) -> tuple[np.ndarray, ...]:
    """Nats, bytes, tokens and words of each stretch of `width` bytes; a token or word belongs where it begins.

    A short rest joins the last stretch.
    """
    begins = (np.cumsum(sizes) - sizes) * (text.bytes / max(sizes.sum(), 1))  # an inexact tokenizer is stretched to fit
    count = max(1, text.bytes // width)
    lengths = np.full(count, float(width))
    lengths[-1] = text.bytes - width * (count - 1)
    token_block, word_block = (np.minimum(at // width, count - 1).astype(int) for at in (begins, _word_begins(text.text)))
    tokens, words = (np.bincount(block, minlength=count) for block in (token_block, word_block))
    return np.bincount(token_block, nats, minlength=count), lengths, tokens, words


def _word_begins(text: str) -> np.ndarray:
    """Where each word begins, in bytes of UTF-8."""
    letters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (letters > 0x7F).astype(np.int64) + (letters > 0x7FF) + (letters > 0xFFFF)
    return (np.cumsum(widths) - widths)[np.fromiter(word_starts(text), np.int64)]


def pieces(model: Model, ids: Sequence[int], nats: np.ndarray) -> list[tuple[str, float]]:
    """Readable pieces of a text with their surprise in bits; tokens that share a character are one piece."""
    decoder, found, waiting = model.tokenizer.decoder(), [], 0.0
    for token, value in zip(ids, nats, strict=False):
        waiting += float(value) / math.log(2)
        if text := decoder.push(int(token)):
            found.append((text, waiting))
            waiting = 0.0
    if rest := decoder.flush():
        found.append((rest, waiting))
    return found
