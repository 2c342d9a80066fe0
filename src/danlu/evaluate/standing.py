"""Results of tasks side by side: figures with errors, every pair of models on the same documents, what was right and wrong."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from danlu.core.errors import BadInput
from danlu.core.page import Page, new_figure, write_report
from danlu.evaluate import paired
from danlu.evaluate.paired import Difference, Figure
from danlu.evaluate.tasks.base import Result, Sample
from danlu.metrics.interval import Estimate

COLUMNS = ("task", "model", "figure", "value", "± s.e.", "95 % from", "to", "documents", "cut", "skipped")
PAIR_COLUMNS = ("task", "figure", "first", "second", "second - first", "95 % from", "to", "p", "documents", "second is")
_SHOWN = 5
_LONG = 600


@dataclass(frozen=True)
class Compared:
    """One figure of two models on the documents that both answered."""

    task: str
    first: str
    second: str
    found: Difference
    documents: int
    verdict: str


def rows(results: Sequence[Result]) -> list[list[str]]:
    """One row a figure, in COLUMNS; the first of each task and model is the one that counts."""
    found = []
    for result in results:
        for figure in result.figures:
            value = figure.estimate()
            numbers = (value.value, value.standard_error, value.low, value.high)
            counts = (f"{result.counts[name]:,}" for name in ("asked", "cut", "skipped"))
            found.append([result.task, result.model, figure.name, *map(_number, numbers), *counts])
    return found


def pairs(results: Sequence[Result]) -> list[Compared]:
    """Every two models on the first figure of every task, judged together. Raises BadInput where they share no document."""
    found: list[tuple[Result, Result, Difference, int]] = []
    for task in dict.fromkeys(result.task for result in results):
        for first, second in itertools.combinations([result for result in results if result.task == task], 2):
            one, two, shared = _aligned(first, second)
            found.append((first, second, paired.difference(one, two), shared))
    words = paired.verdicts([gap for _, _, gap, _ in found])
    return [
        Compared(first.task, first.model, second.model, gap, shared, word)
        for (first, second, gap, shared), word in zip(found, words, strict=True)
    ]


def pair_rows(compared: Sequence[Compared]) -> list[list[str]]:
    """One row a pair, in PAIR_COLUMNS."""
    return [
        [one.task, one.found.name, one.first, one.second, f"{one.found.value.value:+.4f}", _number(one.found.value.low),
         _number(one.found.value.high), f"{one.found.p:.2g}", f"{one.documents:,}", one.verdict]
        for one in compared
    ]  # fmt: skip


def _aligned(first: Result, second: Result) -> tuple[Figure, Figure, int]:
    """The first figures over the documents that both models answered."""
    shared = sorted({sample.document for sample in first.samples} & {sample.document for sample in second.samples})
    if not shared:
        raise BadInput(f"task {first.task}: {first.model} and {second.model} answered no document both, so they do not compare.")
    sides = []
    for result in (first, second):
        place = {sample.document: at for at, sample in enumerate(result.samples)}
        figure = result.figures[0]
        sides.append(replace(figure, parts_NS=figure.parts_NS[[place[document] for document in shared]]))
    return sides[0], sides[1], len(shared)


# ---- telling


def figures(results: Sequence[Result], compared: Sequence[Compared]) -> dict[str, Any]:
    """Everything as plain numbers, for report.json and the record."""
    told: dict[str, Any] = {}
    for result in results:
        told.setdefault(result.task, {})[result.model] = {
            "figures": {figure.name: _plain(figure.estimate()) for figure in result.figures}, **result.counts,
            "about": result.about,
        }  # fmt: skip
    return {"tasks": told, "pairs": [
        {"task": one.task, "figure": one.found.name, "first": one.first, "second": one.second, **_plain(one.found.value),
         "p": one.found.p, "differing": one.found.differing, "documents": one.documents, "verdict": one.verdict}
        for one in compared
    ]}  # fmt: skip


def write(folder: Path, results: Sequence[Result], circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """report.html and report.json, which also holds every document's outcome; returns the figures without those."""
    compared = pairs(results)
    page = Page("Evaluation on tasks", "Figures with bootstrap errors over documents")
    page.table(COLUMNS, rows(results))
    page.text("The first figure of a task is the one that counts. Cut: questions whose beginning did not fit the context. "
              "Skipped: questions that did not fit and were left out.")  # fmt: skip
    page.figure(forest(results), "The first figure of every task with its 95 % interval.")
    if compared:
        page.heading("Models against each other, on the same documents")
        page.table(PAIR_COLUMNS, pair_rows(compared))
        page.text(paired.note(len(compared)))
    for result in results:
        _add_examples(page, result)
    page.heading("Circumstances")
    page.table(("", ""), [(key, str(value)) for key, value in circumstances.items()])
    told = figures(results, compared)
    samples = {result.task: {} for result in results}  # type: dict[str, dict[str, Any]]
    for result in results:
        samples[result.task][result.model] = [asdict(sample) for sample in result.samples]
    write_report(folder, page, {**told, "circumstances": dict(circumstances), "samples": samples})
    return told


def forest(results: Sequence[Result]) -> Any:
    """One line a task and model: its first figure and interval; figures of unlike size each on an axis of their own."""
    names = list(dict.fromkeys(result.figures[0].name for result in results))
    figure, axes = new_figure(8.0, 0.9 + 0.3 * max(len(results), 2), columns=len(names))
    for axis, name in zip(np.atleast_1d(axes), names, strict=True):
        mine = [result for result in results if result.figures[0].name == name]
        for at, result in enumerate(reversed(mine)):
            value = result.figures[0].estimate()
            if math.isfinite(value.low):
                axis.plot([value.low, value.high], [at, at], color="#3b6b8a", linewidth=2)
            axis.plot([value.value], [at], "o", color="#b5432a")
        axis.set_yticks(range(len(mine)), [f"{result.task}, {result.model}" for result in reversed(mine)], fontsize=8)
        axis.set_xlabel(name)
    return figure


def _add_examples(page: Page, result: Result) -> None:
    page.heading(f"{result.task}: {result.model}")
    page.text(", ".join(f"{key} {value}" for key, value in result.about.items() if value not in (None, {}, "")))
    judged = [sample for sample in result.samples if sample.right is not None]
    if not judged:
        _table(page, result.samples[:_SHOWN])
        return
    for title, kept in (("Right", [one for one in judged if one.right]), ("Wrong", [one for one in judged if not one.right])):
        page.text(f"{title}: {len(kept):,} of {len(judged):,}" + (", the first of them:" if kept else "."))
        if kept:
            _table(page, kept[:_SHOWN])


def _table(page: Page, samples: Sequence[Sample]) -> None:
    page.table(("document", "asked (its end)", "said", "true", "log-likelihoods"), [
        (one.document, one.asked[-_LONG:], one.said[:_LONG], one.true[:_LONG], ", ".join(f"{nats:.2f}" for nats in one.nats))
        for one in samples
    ])  # fmt: skip


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "?"


def _plain(value: Estimate) -> dict[str, float | None]:
    return {name: number if math.isfinite(number) else None for name, number in asdict(value).items()}
