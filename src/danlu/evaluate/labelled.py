"""How right a model with a head is on labelled samples: the figures of its task with intervals, and what it mistakes for what.

Every figure comes with a 95 % percentile bootstrap over samples (sentences, questions, queries), so that a difference of two
models can be told from chance.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from danlu.core.errors import BadInput
from danlu.core.page import Page, new_figure, write_report
from danlu.data.shards import Document
from danlu.engine.heads import HeadedModel
from danlu.evaluate import preferences
from danlu.metrics.entity_f1 import entity_counts
from danlu.metrics.interval import Estimate, ratio, resampled
from danlu.metrics.macro_f1 import confusion, f1_by_class, macro_f1
from danlu.metrics.pearson import pearson
from danlu.metrics.retrieval import hits, reciprocal, retrieval
from danlu.metrics.span_f1 import exact_match, span_f1
from danlu.metrics.spearman import spearman

_WORST, _CLASSES = 12, 30
COLUMNS = ("model", "figure", "value", "95 % from", "to")


@dataclass
class Judged:
    """What one model got on one set of samples."""

    name: str
    task: str
    samples: int
    values: dict[str, Estimate]
    labels: list[str] = field(default_factory=list)
    counts: np.ndarray | None = None
    """Confusion matrix, (true, said)."""
    worst: list[tuple[str, str, str]] = field(default_factory=list)
    """Samples that it was surest and wrong about: (text, true, said)."""


def score(model: HeadedModel, documents: Sequence[Document], name: str = "", overlong: str = "raise") -> Judged:
    """Judge a model on samples of its task. Raises BadInput for samples of another form, PromptTooLong for too long ones."""
    if not documents:
        raise BadInput("there is no sample to judge by. Give a dataset with samples in this split.")
    judge = {"classify": _classes, "regress": _numbers, "tag": _tags, "extract": _answers, "embed": _vectors,
             "reward": _rewards}[model.task]  # fmt: skip
    kept = "raise" if overlong == "raise" else "truncate"
    try:
        found = judge(model, documents, overlong if model.task == "reward" else kept)
    except KeyError as lacking:
        raise BadInput(
            f"{model.path} has a head for {model.task}, and these samples have no {lacking}. Prepare them with the --form "
            f"that the model was fine-tuned on."
        ) from None
    found.name, found.samples = name or model.path.name, found.samples or len(documents)
    return found


def _classes(model: HeadedModel, documents: Sequence[Document], overlong: str) -> Judged:
    labels = list(model.model.config.head.labels)
    known = {label: place for place, label in enumerate(labels)}
    strange = sorted({document.sample["label"] for document in documents} - set(labels))
    places = {**known, **{label: len(labels) + at for at, label in enumerate(strange)}}
    said = model.classify([document.text for document in documents], overlong)  # type: ignore[arg-type]  # two words of it
    true_N = np.array([places[document.sample["label"]] for document in documents])
    said_N = np.array([places[one.label] for one in said])
    classes = len(places)
    values = {
        "accuracy": ratio((said_N == true_N).astype(float), np.ones(len(true_N))),
        "macro_f1": resampled(lambda at: macro_f1(confusion(said_N[at], true_N[at], classes)), len(true_N)),
    }
    sure = np.array([one.probability for one in said])
    wrong = sorted(np.flatnonzero(said_N != true_N), key=lambda at: -sure[at])[:_WORST]
    worst = [(documents[at].text, documents[at].sample["label"], f"{said[at].label} ({sure[at]:.0%})") for at in wrong]
    return Judged("", model.task, 0, values, [*labels, *strange], confusion(said_N, true_N, classes), worst)


def _numbers(model: HeadedModel, documents: Sequence[Document], overlong: str) -> Judged:
    said_N = np.array(model.classify([document.text for document in documents], overlong))  # type: ignore[arg-type]
    true_N = np.array([float(document.sample["label"]) for document in documents])
    off = np.abs(said_N - true_N)
    values = {
        "pearson": resampled(lambda at: pearson(said_N[at], true_N[at]), len(true_N)),
        "spearman": resampled(lambda at: spearman(said_N[at], true_N[at]), len(true_N)),
        "mean_absolute_error": ratio(off, np.ones(len(off))),
    }
    worst = [(documents[at].text, f"{true_N[at]:g}", f"{said_N[at]:.3g}") for at in np.argsort(-off)[:_WORST]]
    return Judged("", model.task, 0, values, worst=worst)


def _tags(model: HeadedModel, documents: Sequence[Document], overlong: str) -> Judged:
    true = [document.sample["tags"] for document in documents]
    said = [[tag for _, tag in pairs] for pairs in model.tag_all([document.sample["words"] for document in documents])]
    counts = np.array([entity_counts(one, two) for one, two in zip(said, true, strict=True)], np.float64)
    right = np.array(
        [sum(a == b for a, b in zip(one, two, strict=True)) for one, two in zip(said, true, strict=True)], np.float64
    )
    values = {"word_accuracy": ratio(right, np.array([len(one) for one in true], np.float64))}
    if counts[:, 1:].sum():
        values["entity_f1"] = ratio(2 * counts[:, 0], counts[:, 1] + counts[:, 2])
    labels = sorted({tag for tags in (*said, *true) for tag in tags})
    place = {label: at for at, label in enumerate(labels)}
    flat = [[place[tag] for tags in side for tag in tags] for side in (said, true)]
    wrong = sorted(range(len(documents)), key=lambda at: right[at] / len(true[at]))[:_WORST]
    worst = [(documents[at].text, _told(documents[at].sample["words"], true[at]), _told(documents[at].sample["words"], said[at]))
             for at in wrong if right[at] < len(true[at])]  # fmt: skip
    return Judged("", model.task, 0, values, labels, confusion(*flat, len(labels)), worst)


def _answers(model: HeadedModel, documents: Sequence[Document], overlong: str) -> Judged:
    said = model.answer_all([(document.sample["question"], document.sample["context"]) for document in documents])
    true = [[answer["text"] for answer in document.sample["answers"]] for document in documents]
    ones = np.ones(len(said))
    f1 = np.array([span_f1(one.text, two) for one, two in zip(said, true, strict=True)])
    exact = np.array([exact_match(one.text, two) for one, two in zip(said, true, strict=True)])
    values = {"exact_match": ratio(exact, ones), "span_f1": ratio(f1, ones)}
    worst = [(documents[at].sample["question"], " | ".join(true[at]) or "(none)", said[at].text or "(none)")
             for at in np.argsort(f1)[:_WORST] if f1[at] < 1]  # fmt: skip
    return Judged("", model.task, 0, values, worst=worst)


def _vectors(model: HeadedModel, documents: Sequence[Document], overlong: str) -> Judged:
    """Pairs: each query among all partners. Labels: each text among all the others, those of its label being right."""
    if "query" in documents[0].sample:
        queries, keys = ([document.sample[name] for document in documents] for name in ("query", "positive"))
        relevant = np.array(keys)[:, None] == np.array(keys)
    else:
        queries = keys = [document.text for document in documents]
        names = np.array([document.sample["label"] for document in documents])
        relevant = names[:, None] == names
    query_ND = model.embed(queries, overlong=overlong)  # type: ignore[arg-type]  # two words of it
    key_ND = query_ND if keys is queries else model.embed(keys, overlong=overlong)  # type: ignore[arg-type]
    values = {}
    for dim in [*sorted(model.model.config.head.dims, reverse=True), 0]:
        short = f"_{dim}" if dim else ""
        values |= {f"{name}{short}": value for name, value in _ranked(query_ND, key_ND, relevant, dim, keys is queries).items()}
    return Judged("", model.task, 0, dict(reversed(values.items())))


def _rewards(model: HeadedModel, documents: Sequence[Document], overlong: str) -> Judged:
    pairs = preferences.score(model, documents, overlong)
    return Judged("", model.task, len(pairs), preferences.judge(pairs))


def _ranked(query_ND: np.ndarray, key_ND: np.ndarray, relevant: np.ndarray, dim: int, same: bool) -> dict[str, Estimate]:
    sides = [side[:, :dim] / np.linalg.norm(side[:, :dim], axis=1, keepdims=True) if dim else side for side in (query_ND, key_ND)]
    return ranking(sides[0].astype(np.float64) @ sides[1].T.astype(np.float64), relevant, same)


def ranking(scores_QD: np.ndarray, relevant_QD: np.ndarray, same: bool) -> dict[str, Estimate]:
    """Recall at 1 and 10 and the mean reciprocal rank; same: documents are the queries, and none finds itself."""
    if same:
        scores_QD, relevant_QD = scores_QD.copy(), relevant_QD.copy()
        np.fill_diagonal(scores_QD, -np.inf)
        np.fill_diagonal(relevant_QD, False)
    ranks = retrieval(scores_QD, relevant_QD)
    ranks = ranks[relevant_QD.any(1)]
    if not len(ranks):
        raise BadInput("no sample has another of its label, so nothing can be found. Give more samples.")
    ones = np.ones(len(ranks))
    return {"mean_reciprocal_rank": ratio(reciprocal(ranks), ones), "recall_at_10": ratio(hits(ranks, 10), ones),
            "recall_at_1": ratio(hits(ranks, 1), ones)}  # fmt: skip


# ---- telling


def figures(judged: Judged) -> dict[str, Any]:
    """The figures with their intervals, for lineage and report.json."""
    return {name: {key: _plain(value) for key, value in asdict(one).items()} for name, one in judged.values.items()}


def rows(judged: Sequence[Judged]) -> list[list[str]]:
    """One row a figure and model, in COLUMNS."""
    return [[one.name, name.replace("_", " "), f"{value.value:.4f}", f"{value.low:.4f}", f"{value.high:.4f}"]
            for one in judged for name, value in one.values.items()]  # fmt: skip


def summary(judged: Judged) -> str:
    """One line for the terminal."""
    said = ", ".join(f"{name.replace('_', ' ')} {value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
                     for name, value in judged.values.items())  # fmt: skip
    return f"on {judged.samples:,} held-out samples: {said}"


def write(folder: Path, judged: Sequence[Judged]) -> dict[str, Any]:
    """report.html and report.json; returns the figures by model."""
    page = Page("Evaluation on labelled samples", "Figures with 95 % bootstrap intervals over samples")
    for one in judged:
        add_to(page, one)
    found = {one.name: {"task": one.task, "samples": one.samples, **figures(one)} for one in judged}
    write_report(folder, page, found)
    return found


def add_to(page: Page, judged: Judged) -> None:
    """What a report shows of one model."""
    page.heading(f"On {judged.samples:,} held-out samples: {judged.name}")
    page.table(COLUMNS[1:], [row[1:] for row in rows([judged])])
    if judged.counts is not None:
        _add_confusion(page, judged.labels, judged.counts)
    if judged.worst:
        page.text("What it got most wrong:")
        page.table(("sample", "true", "said"), [[text[:300], true[:300], said[:300]] for text, true, said in judged.worst])


def _add_confusion(page: Page, labels: Sequence[str], counts: np.ndarray) -> None:
    f1 = f1_by_class(counts)
    page.table(("class", "samples", "said", "right", "F1"), [
        [label, int(counts[at].sum()), int(counts[:, at].sum()), int(counts[at, at]), round(float(f1[at]), 4)]
        for at, label in enumerate(labels)
    ])  # fmt: skip
    if len(labels) > _CLASSES:
        return
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = new_figure(2.5 + 0.45 * len(labels), 1.6 + 0.4 * len(labels))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="said", ylabel="true")
    for (true, said), count in np.ndenumerate(counts):
        if count:
            axes.text(said, true, str(int(count)), ha="center", va="center", fontsize=7,
                      color="white" if share[true, said] > 0.5 else "black")  # fmt: skip
    page.figure(figure, "What was taken for what: counts; colour is the share of the true class.")


def _told(words: Sequence[str], tags: Sequence[str]) -> str:
    return " ".join(f"{word}/{tag}" for word, tag in zip(words, tags, strict=True) if tag != "O")


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
