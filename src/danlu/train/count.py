"""Counting in place of training: the tokens of a dataset become a model that is counted (models/ngram.py), in one reading.

Documents come in an order that the seed decides, so that a share of the text is an even share. Memory follows the number of
different n-grams, not the text; what was counted is whole or is not there.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from danlu.core import log
from danlu.core.labels import NO_LABEL
from danlu.core.lineage import Input
from danlu.core.machine import describe
from danlu.core.page import Page, write_report
from danlu.core.seeds import derive
from danlu.core.units import count as amount
from danlu.core.units import duration, size
from danlu.data.tokens import TokenSet
from danlu.models import MODELS
from danlu.models.kneser_ney import Block, Level, count
from danlu.train.report import add_ledger

_BLOCK_TOKENS = 1 << 22
"""Tokens held at once while counting."""
_SCORED_TOKENS = 1 << 17
"""Tokens scored at once."""


@dataclass(frozen=True)
class Counted:
    """A model and how it came to be."""

    model: Any
    levels: list[Level]
    documents: int
    """Documents read, the last of them perhaps in part."""
    tokens: int
    """Tokens foreseen: all that were read but the first of each document."""
    seconds: float
    heldout: dict[str, Any]

    def metrics(self) -> dict[str, Any]:
        """Figures for the record."""
        figures = sum(part.numel() for part in self.model.buffers() if part.is_floating_point())
        found = {"parameters": figures, "ngrams": sum(self.model.config.ngrams), "order": self.model.config.order,
                 "tokens": self.tokens, "seconds": round(self.seconds, 3),
                 "tokens_per_s": self.tokens / max(self.seconds, 1e-9)}  # fmt: skip
        return found | {f"heldout_{key}" if key == "loss" else key: self.heldout[key] for key in self.heldout if key != "targets"}


def train(config: Any, tokens: TokenSet, heldout: TokenSet | None, *, most: int | None = None, seed: int = 0) -> Counted:
    """Count at most `most` tokens (all where left out) for the family of `config` and score the held-out documents."""
    started = time.monotonic()
    chosen = share(tokens, most, seed)
    read = int(chosen[:, 1].sum())
    with log.progress("count", total=read * max(config.order - 1, 1), unit="tokens") as bar:

        def read_blocks() -> Iterator[Block]:
            for block in blocks(tokens, chosen):
                yield block
                bar.advance(len(block[0]))

        levels = count(read_blocks, config.order, config.vocab_size)
    model = MODELS[config.name].counted_from(config, levels)
    seconds = time.monotonic() - started
    for number, level in enumerate(levels, 1):
        if not level.estimated:
            log.say(f"order {number}: no counts to estimate discounts from; they are {level.discounts}")
    return Counted(model, levels, len(chosen), read - len(chosen), seconds, score(model, heldout) if heldout else {})


def share(tokens: TokenSet, most: int | None, seed: int) -> np.ndarray:
    """Documents to read and how many stored tokens of each, (documents, 2): in the seed's order until `most` are foreseen.

    The last document is cut where the tokens end.
    """
    order = np.random.default_rng(derive(seed, "documents", 0)).permutation(len(tokens))
    order = order[tokens.lengths[order] > 1]
    stored = tokens.lengths[order]
    if most is not None:
        left = most - (np.cumsum(stored - 1) - (stored - 1))
        stored = np.minimum(stored, left + 1)
        order, stored = order[stored > 1], stored[stored > 1]
    return np.stack([order, stored], axis=1)


def blocks(tokens: TokenSet, chosen: np.ndarray, most: int = _BLOCK_TOKENS) -> Iterator[Block]:
    """Whole documents of `share`, some `most` tokens at a time."""
    if not len(chosen):
        return
    number = (np.cumsum(chosen[:, 1]) - chosen[:, 1]) // most
    for part in np.split(chosen, np.flatnonzero(np.diff(number)) + 1):
        yield np.concatenate([tokens.document(int(which), 0, int(stop)) for which, stop in part]), part[:, 1]


@torch.inference_mode()
def score(model: Any, tokens: TokenSet) -> dict[str, Any]:
    """Nats a token and bits per byte of every document of a set."""
    nats, targets = 0.0, 0
    everything = np.stack([np.arange(len(tokens)), tokens.lengths], axis=1)
    for line, lengths in blocks(tokens, everything, _SCORED_TOKENS):
        ids_1T = torch.from_numpy(line.astype(np.int64))[None]
        documents_1T = torch.repeat_interleave(torch.arange(len(lengths)), torch.from_numpy(lengths))[None]
        target_T = torch.where(documents_1T[0, 1:] == documents_1T[0, :-1], ids_1T[0, 1:], NO_LABEL)
        hidden_TD = model.hidden(ids_1T, documents_BT=documents_1T)[0, :-1]
        nats += float(model.cross_entropy_sum(hidden_TD, target_T))
        targets += int((target_T != NO_LABEL).sum())
    text_bytes = max(int(tokens.text_bytes.sum()), 1)
    return {"loss": nats / max(targets, 1), "bits_per_byte": nats / math.log(2) / text_bytes, "targets": targets}


def ledger(counted: Counted, tokens: TokenSet, heldout: TokenSet | None) -> dict[str, Any]:
    """Where every token went. stored = learnable + one opening token a document; learnable = trained_on + left_out."""
    learnable = int(np.maximum(tokens.lengths - 1, 0).sum())
    found: dict[str, Any] = {
        "tokens": {"documents": len(tokens), "stored": tokens.tokens, "learnable": learnable, "trained_on": counted.tokens,
                   "left_out": learnable - counted.tokens, "epochs": round(counted.tokens / max(learnable, 1), 6)},
        "train_sources": tokens.by_source(),
    }  # fmt: skip
    if heldout is not None:
        found["validation_sources"] = heldout.by_source()
    return found


def report(
    folder: Path, counted: Counted, *, title: str, samples: Mapping[str, str], settings: Mapping[str, Any],
    ledger: Mapping[str, Any], inputs: Sequence[Input],
) -> None:  # fmt: skip
    """`report.html` and `report.json`: figures, the tables of n-grams, what the model writes, where the text came from."""
    page, metrics = Page(title, f"{counted.model.config.name}: counted, not trained"), counted.metrics()
    shown = {"tokens counted": amount(counted.tokens), "different n-grams": amount(metrics["ngrams"]),
             "counting time": duration(counted.seconds)}  # fmt: skip
    if counted.heldout:
        shown["bits per byte, held out"] = f"{counted.heldout['bits_per_byte']:.4f}"
    page.facts(shown)
    page.heading("N-grams")
    page.table(["tokens", "different", "memory", "taken from counts of 1", "of 2", "of 3 and more", "as estimated from"],
               [_row(number, level) for number, level in enumerate(counted.levels, 1)])  # fmt: skip
    page.text("What is taken from counts goes to shorter sequences of tokens, and in the end evenly to all tokens.")
    page.heading("What it writes")
    for prompt, text in samples.items():
        page.code(f"{prompt}{text}")
    page.heading("Token ledger")
    add_ledger(page, ledger)
    page.heading("Made from")
    page.table(["role", "id", "path"], [(source.role, source.id, source.path) for source in inputs])
    write_report(folder, page, {**metrics, "samples": dict(samples), "settings": dict(settings), "ledger": dict(ledger),
                                "orders": [_figures(level) for level in counted.levels], "machine": describe()})  # fmt: skip


def _row(number: int, level: Level) -> list[Any]:
    held = sum(part.nbytes for part in (level.keys, level.probability, level.backoff))
    source = "this text" if level.estimated else "no text: the usual ones"
    return [number, len(level.probability), size(held), *(f"{taken:.3f}" for taken in level.discounts), source]


def _figures(level: Level) -> dict[str, Any]:
    return {"ngrams": len(level.probability), "discounts": level.discounts, "estimated": level.estimated}
