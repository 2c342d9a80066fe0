"""Needle in a haystack: can a model still read a fact that stands far back in its context?

A text of a wanted length is filled with sentences about nothing in particular. At a wanted depth stands one fact, "The passcode
of Amber is walnut.", and at random places those of other names, so that finding some passcode is not enough. The text ends as
the fact begins, "The passcode of Amber is", so that a model that was never taught to answer can go on. Right is an answer whose
every token is the model's first choice: what greedy decoding would write.

Source of the idea: Mohtashami & Jaggi 2023 (arXiv:2305.16300, passkeys); G. Kamradt 2023 (the grid of depths and lengths).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from danlu.core.errors import BadInput
from danlu.core.page import Page, new_figure
from danlu.core.seeds import derive
from danlu.engine.model import Model
from danlu.evaluate.haystack import CODES, NAMES, Needle, sentence
from danlu.metrics.interval import share
from danlu.models.base import CausalLM

COLUMNS = ("model", "tokens", "found", "95 % interval", "worst depth", "probability of the answer")


@dataclass(frozen=True)
class NeedleScore:
    """What one model found; arrays are (lengths, depths, trials)."""

    name: str
    context: int
    config: Needle
    right: np.ndarray
    probability: np.ndarray
    """Of the whole answer."""

    def figures(self) -> dict[str, Any]:
        """Shares found, by cell and by length."""
        lengths, depths = self.config.lengths, self.config.depths
        cells = [
            {"tokens": length, "depth": depth, "found": float(self.right[row, column].mean()),
             "probability": float(self.probability[row, column].mean())}
            for row, length in enumerate(lengths) for column, depth in enumerate(depths)
        ]  # fmt: skip
        by_length = []
        for row, length in enumerate(lengths):
            found, low, high = share(int(self.right[row].sum()), self.right[row].size)
            worst = int(self.right[row].mean(-1).argmin())
            by_length.append({
                "tokens": length, "found": found, "low": low, "high": high,
                "worst_depth": depths[worst], "worst_found": float(self.right[row, worst].mean()),
                "probability": float(self.probability[row].mean()),
            })  # fmt: skip
        return {"model": self.name, "context": self.context, "trials": self.config.trials, "chance": 1 / len(CODES),
                "by_length": by_length, "cells": cells}  # fmt: skip


def search(model: Model, name: str, config: Needle) -> NeedleScore:
    """Try every depth and length.

    Raises BadInput for a model that does not read from left to right, for texts too short to hold the facts, and for texts
    that a family with a fixed number of positions cannot take.
    """
    if not isinstance(model.model, CausalLM):
        raise BadInput(f"{name} does not go on with a text: a needle test needs a model that reads from left to right.")
    right = np.zeros((len(config.lengths), len(config.depths), config.trials), bool)
    probability = np.zeros(right.shape)
    for row, length in enumerate(config.lengths):
        for column, depth in enumerate(config.depths):
            for trial in range(config.trials):
                prompt, answer = episode(model, config, length, depth, trial)
                try:
                    right[row, column, trial], probability[row, column, trial] = _answered(model, prompt, answer)
                except ValueError as error:
                    raise BadInput(f"{name} cannot read {length} tokens: {error}. Leave this length out.") from None
    return NeedleScore(name, model.context, config, right, probability)


def episode(model: Model, config: Needle, length: int, depth: float, trial: int) -> tuple[list[int], list[int]]:
    """Ids of one text that ends in the question, and of its answer; together at most `length`, less than a sentence fewer."""
    random = np.random.default_rng(derive(config.seed, "needle", length, str(depth), trial))
    names = random.choice(NAMES, config.distractors + 1, replace=False)
    codes = random.choice(CODES, config.distractors + 1, replace=False)
    before = config.fact.partition("{code}")[0]
    question = before.rstrip()
    space = before[len(question) :]

    def ids(text: str) -> list[int]:
        return model.tokenizer.encode(text)

    facts = [ids(" " + config.fact.format(name=name, code=code)) for name, code in zip(names, codes, strict=True)]
    ask, answer = ids(" " + question.format(name=names[0])), ids(f"{space}{codes[0]}")
    start = [] if model.tokenizer.bos_id is None else [model.tokenizer.bos_id]
    room = length - len(start) - len(ask) - len(answer) - sum(map(len, facts))
    if room < 0:
        raise BadInput(f"{length} tokens have no room for the facts and the question: they need {length - room}.")
    filler: list[list[int]] = []
    while (more := ids(" " + sentence(random))) and len(more) <= room:
        filler.append(more)
        room -= len(more)
    pieces = list(filler)
    for fact in facts[1:]:
        pieces.insert(int(random.integers(len(pieces) + 1)), fact)
    pieces.insert(_place(pieces, depth), facts[0])
    return [*start, *(token for piece in pieces for token in piece), *ask], answer


def _place(pieces: Sequence[Sequence[int]], depth: float) -> int:
    """The border between pieces nearest to a share of their tokens."""
    ends = np.cumsum([0, *map(len, pieces)])
    return int(np.abs(ends - depth * ends[-1]).argmin())


@torch.inference_mode()
def _answered(model: Model, prompt: list[int], answer: list[int]) -> tuple[bool, float]:
    """Whether every token of the answer is the first choice, and the probability of the answer."""
    ids = torch.tensor([prompt + answer[:-1]], device=model.model.device)
    hidden_AD = model.model.hidden(ids)[0, len(prompt) - 1 :]
    logp_AV = model.model.logits(hidden_AD).float().log_softmax(-1)
    wanted = torch.tensor(answer, device=logp_AV.device)
    return bool((logp_AV.argmax(-1) == wanted).all()), float(logp_AV.gather(1, wanted[:, None]).sum().exp())


def rows(scores: Sequence[NeedleScore]) -> list[list[str]]:
    """One row a model and length, in COLUMNS."""
    return [
        [figures["model"], f"{row['tokens']:,}{' *' if row['tokens'] > figures['context'] else ''}", f"{row['found']:.0%}",
         f"{row['low']:.0%} to {row['high']:.0%}", f"{row['worst_depth']:g}: {row['worst_found']:.0%}",
         f"{row['probability']:.3f}"]
        for figures in (score.figures() for score in scores) for row in figures["by_length"]
    ]  # fmt: skip


def write(page: Page, scores: Sequence[NeedleScore]) -> None:
    """The part of a report about needles."""
    config = scores[0].config
    page.text(
        f"“{config.fact.format(name='…', code='…')}” stands somewhere in a text with {config.distractors} other passcodes; the "
        f"text ends with its beginning. Found: every token of the answer is the model's first choice. {config.trials} texts a "
        f"cell; guessing finds {1 / len(CODES):.1%}. Lengths with a star are beyond the model's context."
    )
    page.table(COLUMNS, rows(scores))
    for score in scores:
        page.figure(heat_map(score), f"{score.name}: share found by length of the text and depth of the fact")


def heat_map(score: NeedleScore, axes: Any = None) -> Any:
    """Share found for each depth (down) and length (across); a line where the model's context ends."""
    figure, axes = (axes.figure, axes) if axes is not None else new_figure(1.6 + 0.9 * len(score.config.lengths), 3.2)
    found_DL = score.right.mean(-1).T
    axes.pcolormesh(found_DL, vmin=0, vmax=1, cmap="viridis", edgecolors="face")
    for (row, column), found in np.ndenumerate(found_DL):
        axes.text(column + 0.5, row + 0.5, f"{found:.0%}", ha="center", va="center", fontsize=8,
                  color="#101010" if found > 0.6 else "#f4f4f4")  # fmt: skip
    within = sum(length <= score.context for length in score.config.lengths)
    if 0 < within < len(score.config.lengths):
        axes.axvline(within, color="#b5432a", linewidth=2)
    axes.set_xticks(np.arange(len(score.config.lengths)) + 0.5, [f"{length:,}" for length in score.config.lengths])
    axes.set_yticks(np.arange(len(score.config.depths)) + 0.5, [f"{depth:g}" for depth in score.config.depths])
    axes.invert_yaxis()
    axes.set_xlabel("tokens of the text")
    axes.set_ylabel("depth of the fact")
    return figure
