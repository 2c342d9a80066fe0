"""The page and the table of an evaluation on text: figures, comparison, what surprised each model, use of context."""

import html
from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from danlu.core.page import Page, new_figure, write_report
from danlu.evaluate.text import TextScore, compare

COLUMNS = ("model", "bits per byte", "± s.e.", "perplexity by token", "± s.e.", "perplexity by word", "± s.e.", "tokens",
           "bytes/token")  # fmt: skip


def rows(scores: Sequence[TextScore]) -> list[list[Any]]:
    """One row a model, in COLUMNS; the best of several of one kind is marked."""
    found = []
    for score in scores:
        figures, peers = score.plain_figures(), [other.bits_per_byte.value for other in scores if other.kind == score.kind]
        mark = " *" if len(peers) > 1 and figures["bits_per_byte"] == min(peers) else ""
        found.append([
            score.name, f"{figures['bits_per_byte']:.4f}{mark}", f"{figures['standard_error']:.4f}",
            f"{figures['perplexity_by_token']:,.2f}", f"{figures['perplexity_by_token_error']:,.2g}",
            f"{figures['perplexity_by_word']:,.1f}", f"{figures['perplexity_by_word_error']:,.2g}", f"{score.tokens:,}",
            f"{figures['bytes_per_token']:.2f}",
        ])  # fmt: skip
    return found


def differences(scores: Sequence[TextScore]) -> list[dict[str, Any]]:
    """Every pair of models of one kind: the difference in bits per byte, its standard error and interval, and what it means."""
    found = []
    for first, second in combinations(scores, 2):
        if first.kind != second.kind:
            continue
        gap = compare(first, second)
        if np.isnan(gap.low):
            words = "one stretch of text: too little to tell"
        elif gap.low <= 0 <= gap.high:
            words = "no clear difference on this text"
        else:
            words = f"{first.name if gap.value < 0 else second.name} is better on this text"
        found.append({"first": first.name, "second": second.name, "difference": gap.value, "standard_error": gap.standard_error,
                      "low": gap.low, "high": gap.high, "meaning": words})  # fmt: skip
    return found


def note(scores: Sequence[TextScore]) -> str:
    """What to know where some figures are no probabilities of the text; empty where none is."""
    if not any(score.kind for score in scores):
        return ""
    return (
        "Pseudo figures are of masked models: each token is hidden by itself and everything around it is seen, what follows it "
        "too (within words: what follows it in its own word is hidden as well). They are no probability of the text and do not "
        "compare with the figures of models that read from left to right."
    )


def write(folder: Path, scores: Sequence[TextScore]) -> dict[str, Any]:
    """Write report.html and report.json; returns the figures."""
    figures = {"models": [score.figures() for score in scores], "differences": differences(scores)}
    first = scores[0]
    page = Page("Evaluation on text", f"{first.bytes:,} bytes in {len(first.files)} file(s); every token counted once")
    page.table(COLUMNS, rows(scores))
    page.text(
        "Lower is better throughout. Bits per byte compares models whatever their tokenizers; perplexity by token does "
        f"not. The standard error is over {len(first.block_nats)} stretches of text, not over tokens, which lean on each other."
    )
    if about := note(scores):
        page.text(about)
    if figures["differences"]:
        page.heading("Differences, bits per byte, on the same stretches of text")
        page.table(
            ["first", "second", "first - second", "± s.e.", "95 % interval", "in words"],
            [[d["first"], d["second"], f"{d['difference']:+.4f}", f"{d['standard_error']:.4f}",
              f"{d['low']:+.4f} to {d['high']:+.4f}", d["meaning"]] for d in figures["differences"]],
        )  # fmt: skip
    page.heading("What surprised the model")
    page.text("The stronger the colour, the more bits a piece of text cost; point at it for the figure.")
    for score in scores:
        page.markup(f'<p class="small">{html.escape(score.name)}</p>{heat(score.excerpt)}')
    if reading := [score for score in scores if not score.kind]:
        page.heading("Use of context")
        page.figure(context_figure(reading), "Surprise of a token by how many tokens stood before it in the window")
    page.heading("By file")
    page.table(["model", "file", "bytes", "tokens", "bits per byte"],
               [[score.name, file["file"], file["bytes"], file["tokens"], file["bits_per_byte"]]
                for score in scores for file in score.files])  # fmt: skip
    page.text(" ".join(f"{score.name}: windows of {score.window} tokens, moved by {score.stride}." for score in scores))
    write_report(folder, page, figures)
    return figures


def heat(pieces: Sequence[tuple[str, float]], full_bits: float = 12.0) -> str:
    """Pieces of text on a ground as strong as their surprise; escaped."""
    spans = "".join(
        f'<span title="{bits:.1f} bits" style="background:rgba(216,67,42,{min(bits / full_bits, 1) * 0.75:.2f})">'
        f"{html.escape(text)}</span>"
        for text, bits in pieces
    )
    return f"<pre>{spans}</pre>"


def context_figure(scores: Sequence[TextScore]) -> Any:
    """Mean surprise against context, in bits, averaged over ranges that double."""
    figure, axes = new_figure()
    for score in scores:
        edges = [0, *(2**k for k in range(score.window.bit_length()) if 2**k < score.window), score.window]
        ranges = [(low, high) for low, high in pairwise(edges) if score.by_context[low:high].any()]
        bits = [score.by_context[low:high].mean() / np.log(2) for low, high in ranges]
        axes.plot([(low + high + 1) / 2 for low, high in ranges], bits, marker="o", label=score.name)
    axes.set_xscale("log")
    axes.set_xlabel("tokens of context")
    axes.set_ylabel("bits per token")
    axes.legend()
    return figure
