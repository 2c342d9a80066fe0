"""What a run changed: the model before and after it, on the same held-out texts, prompts and tasks, each line with its error.

    probes = Probes(texts, questions, tasks)                  # once; `questions_of(ids, targets, tokenizer)` makes questions
    before = measure(base, probes)                            # `base` and `tuned` are engine.model.Model, opened or around a
    after = measure(tuned, probes)                            #   live module; with an adapter: `with disabled(module): ...`
    moved = drift(tuned, base, after)                         # KL(after || before); around_base=lambda: disabled(module)
    lines = compare(before, after, moved)                     # list[Line], each with a verdict: worse, same, better
    figures(lines)                                            # a plain dict for the record (lineage metrics, report.json)
    add_to(page, lines, before, after)                        # the table and bars, for train/report.write's `parts`
    summary(lines)                                            # one paragraph for the terminal

`measure` reads the module as it is at that moment and puts it into evaluation mode for as long as it takes.
KL is exact over the next token and sampled over what stands before it (arXiv:2504.10637), so it is never negative.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from danlu.core.labels import NO_LABEL
from danlu.core.page import Page, new_figure
from danlu.core.seeds import derive
from danlu.engine.model import Model
from danlu.engine.request import Sampling
from danlu.evaluate import paired, text
from danlu.evaluate.how import How
from danlu.evaluate.paired import Difference, Figure, of_values
from danlu.evaluate.subject import Answer, Pair, Subject, plain_logprobs
from danlu.evaluate.tasks.base import Task
from danlu.metrics.exact_match import exact_match
from danlu.metrics.interval import Estimate
from danlu.models.base import Seq2SeqLM
from danlu.tokenizer.tokenizer import Tokenizer

_SHOWN = 6
_GRAM = 4
"""Words in a row, by token, that must not come again."""


@dataclass(frozen=True)
class Question:
    """A held-out prompt, with the answer that stands in the data."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    """The answer's tokens, the one that ends it included; empty where only the model's own answer matters."""
    truth: str
    """The answer's text."""


@dataclass(frozen=True)
class Probes:
    """What a model is asked before and after."""

    texts: Sequence[str] = ()
    """Held-out texts for bits per byte: what must not be forgotten."""
    questions: Sequence[Question] = ()
    tasks: Sequence[Task] = ()
    """Of each the first figure counts."""
    how: How = field(default_factory=How)
    """How the tasks are put."""
    room: int = 128
    """Most tokens of an answer."""
    seed: int = 0


@dataclass
class Facts:
    """What one model made of the probes."""

    figures: list[Figure] = field(default_factory=list)
    asked: list[Question] = field(default_factory=list)
    """The questions that fit the context together with an answer."""
    answers: list[Answer] = field(default_factory=list)
    """The likeliest answer to each of them."""
    drawn: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    """Prompts with an answer drawn by the model's own probabilities, in ids."""
    skipped: int = 0
    """Questions that do not fit the context together with an answer."""


@dataclass(frozen=True)
class Line:
    """One line of the comparison."""

    name: str
    before: Estimate | None
    after: Estimate
    change: Estimate | None
    verdict: str
    """worse, same, better; more or less where neither side is better; for the distance from the base: moved."""


def questions_of(
    ids: Sequence[int], targets: Sequence[int], tokenizer: Tokenizer, ends: frozenset[int] = frozenset()
) -> list[Question]:
    """The questions of one sample: each run of targets (-100 asks for nothing) is an answer to all that stands before it.

    ids, targets: (T,), targets[t] being the token behind ids[t]; ends: tokens that are no text of the answer.
    """
    asked = np.asarray(targets) != NO_LABEL
    edges = np.flatnonzero(np.diff(np.concatenate([[False], asked, [False]]).astype(np.int8)))
    found = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        answer = tuple(int(token) for token in targets[begin:end])
        truth = tokenizer.decode([token for token in answer if token not in ends])
        found.append(Question(tuple(int(token) for token in ids[: begin + 1]), answer, truth))
    return found


def spread(questions: Sequence[Question], most: int, seed: int = 0) -> list[Question]:
    """So many of them, drawn without return, in their order."""
    if len(questions) <= most:
        return list(questions)
    kept = np.random.default_rng(derive(seed, "questions")).choice(len(questions), most, replace=False)
    return [questions[int(at)] for at in np.sort(kept)]


def measure(model: Model, probes: Probes) -> Facts:
    """Ask a model everything. Raises BadInput for a model that does not write."""
    facts = Facts()
    with _evaluating(model), Subject(model, live=True) as subject:
        if probes.texts and not isinstance(model.model, Seq2SeqLM):
            facts.figures.append(_bits(model, probes.texts))
        if probes.questions:
            _ask(subject, probes, facts)
        for task in probes.tasks:
            first = task.ask(subject, probes.how).figures[0]
            facts.figures.append(Figure(f"{task.name}: {first.name}", first.parts_NS, first.finish, first.better))
    return facts


def drift(
    after: Model, before: Model, facts: Facts, around_base: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Figure | None:
    """KL(after || before) in nats a token, over the answers that `after` drew when it was measured; None without answers.

    around_base: what to enter while the model before computes, where both are one module with an adapter.
    """
    nats, tokens = [], []
    with _evaluating(after), _evaluating(before), torch.inference_mode():
        for prompt, answer in facts.drawn:
            logp_AV = plain_logprobs(after, prompt, answer)
            with around_base():
                logq_AV = plain_logprobs(before, prompt, answer)
            shared = min(logp_AV.size(1), logq_AV.size(1))  # tokens that the base does not have are told apart by nobody
            gap_AV = logp_AV[:, :shared].exp() * (logp_AV[:, :shared] - logq_AV[:, :shared])
            nats.append(float(gap_AV.nan_to_num().double().sum().clamp(min=0)))
            tokens.append(len(answer))
    return of_values("KL from the base, nats a token", nats, "", tokens) if tokens else None


def compare(before: Facts, after: Facts, moved: Figure | None = None) -> list[Line]:
    """Line by line. Raises ValueError where the two were not asked the same."""
    names = [figure.name for figure in before.figures]
    if names != [figure.name for figure in after.figures]:
        raise ValueError("before and after were asked different things")
    gaps = [paired.difference(one, two) for one, two in zip(before.figures, after.figures, strict=True)]
    words = paired.verdicts(gaps)
    lines = [_line(*row) for row in zip(before.figures, after.figures, gaps, words, strict=True)]
    if moved is not None:
        found = moved.estimate()
        lines.append(Line(moved.name, None, found, None, "moved" if found.value > 1e-6 else "same"))
    return lines


# ---- the probes


def _bits(model: Model, texts: Sequence[str]) -> Figure:
    scored = text.score(model, [text.Text(f"text {at}", one) for at, one in enumerate(texts)], "held-out text", excerpt_tokens=0)
    return of_values("bits per byte of held-out text", scored.block_nats / math.log(2), "lower", scored.block_bytes)


def _ask(subject: Subject, probes: Probes, facts: Facts) -> None:
    room = min(probes.room, subject.context - 1)
    fitting = [one for one in probes.questions if len(one.before) + max(room, len(one.after)) <= subject.context]
    facts.skipped = len(probes.questions) - len(fitting)
    if not fitting:
        return
    taught = [one for one in fitting if one.after]
    if taught:
        found = subject.likelihoods([Pair(one.before, one.after) for one in taught])
        nats, tokens = [-one.nats for one in found], [one.tokens for one in found]
        facts.figures.append(of_values("loss on held-out answers, nats a token", nats, "lower", tokens))
    facts.asked, prompts = fitting, [one.before for one in fitting]
    facts.answers = subject.answers(prompts, Sampling(temperature=0), room)
    if taught:
        right = [exact_match(said.text, [one.truth]) for said, one in zip(facts.answers, fitting, strict=True) if one.after]
        facts.figures.append(of_values("held-out answers matched exactly", right))
    facts.figures += [
        of_values("ended by itself", [float(one.ended) for one in facts.answers]),
        of_values("tokens of an answer", [len(one.ids) for one in facts.answers], ""),
        of_values(f"share of {_GRAM}-grams said before", [repeated(one.ids) for one in facts.answers], "lower"),
    ]
    seeds = [derive(probes.seed, "drawn", at) for at in range(len(prompts))]
    drawn = subject.answers(prompts, Sampling(temperature=1), room, seeds)
    facts.drawn = [(prompt, one.ids) for prompt, one in zip(prompts, drawn, strict=True)]


def repeated(ids: Sequence[int], size: int = _GRAM) -> float:
    """Share of the runs of `size` tokens that have stood in the answer before: near 1 for an answer that goes round in circles.

    >>> repeated([1, 2, 3, 4, 5]), repeated([1, 2, 1, 2, 1, 2, 1], size=2)
    (0.0, 0.6666666666666667)
    """
    grams = [tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@contextlib.contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    was = model.model.training
    model.model.eval()
    try:
        yield
    finally:
        model.model.train(was)


# ---- telling


def _line(before: Figure, after: Figure, gap: Difference, word: str) -> Line:
    return Line(before.name, before.estimate(), after.estimate(), gap.value, word)


def figures(lines: Sequence[Line]) -> dict[str, Any]:
    """All lines as plain numbers; None where a number is not known."""
    return {
        line.name: {"before": _plain(line.before), "after": _plain(line.after), "change": _plain(line.change),
                    "verdict": line.verdict}
        for line in lines
    }  # fmt: skip


def summary(lines: Sequence[Line]) -> str:
    """For the terminal: what changed, line by line."""
    return "\n  ".join(["before and after:", *(f"{line.name}: {_told(line)}" for line in lines)])


def add_to(page: Page, lines: Sequence[Line], before: Facts | None = None, after: Facts | None = None,
           tokenizer: Tokenizer | None = None) -> None:  # fmt: skip
    """The part of a report: a table, bars, and some answers before and after."""
    page.heading("Before and after")
    page.table(("", "before", "after", "change", "95 % from", "to", ""), [
        (line.name, _number(line.before), _number(line.after), *_change(line), line.verdict) for line in lines
    ])  # fmt: skip
    page.text(paired.note(sum(line.change is not None for line in lines)))
    if skipped := max(before.skipped if before else 0, after.skipped if after else 0):
        page.text(f"{skipped} held-out prompt(s) do not fit the context together with an answer and were not asked.")
    shown = [line for line in lines if line.before is not None]
    if shown:
        page.figure(bars(shown), "Change by line, in standard errors of the change; beyond the lines it is more than chance.")
    if before and after and before.answers and after.answers:
        page.text("The likeliest answers to the first held-out prompts:")
        told = [tokenizer.decode(one.before)[-160:] if tokenizer else "" for one in before.asked]
        rows = zip(told, before.answers, after.answers, strict=True)
        page.table(("prompt ends", "before", "after"), [
            (prompt, one.text[:300], two.text[:300]) for prompt, one, two in list(rows)[:_SHOWN]
        ])  # fmt: skip


def bars(lines: Sequence[Line]) -> Any:
    """One bar a line, from zero to its change over the change's standard error; green is better, red is worse."""
    figure, axes = new_figure(8.0, 0.7 + 0.36 * len(lines))
    colours = {"better": "#5a8a4b", "worse": "#b5432a", "same": "#9a948a"}
    for at, line in enumerate(reversed(lines)):
        assert line.change is not None
        error = line.change.standard_error
        size = line.change.value / error if error and math.isfinite(error) else 0.0
        axes.barh(at, float(np.clip(size, -12, 12)), color=colours.get(line.verdict, "#3b6b8a"))
    axes.set_yticks(range(len(lines)), [line.name for line in reversed(lines)])
    for edge in (-1.96, 1.96):
        axes.axvline(edge, color="#777777", linewidth=0.8, linestyle=":")
    axes.axvline(0, color="#777777", linewidth=0.8)
    axes.set_xlabel("change / standard error (cut at 12)")
    return figure


def _told(line: Line) -> str:
    if line.before is None or line.change is None:
        return f"{line.after.value:.4g} (± {line.after.standard_error:.2g})"
    change = f"{line.change.value:+.3g} ± {line.change.standard_error:.2g}"
    return f"{line.before.value:.4g} -> {line.after.value:.4g} ({change}): {line.verdict}"


def _number(one: Estimate | None) -> str:
    return "" if one is None else f"{one.value:.4g} ± {one.standard_error:.2g}"


def _change(line: Line) -> tuple[str, str, str]:
    if line.change is None:
        return "", f"{line.after.low:.4g}", f"{line.after.high:.4g}"
    return f"{line.change.value:+.4g}", f"{line.change.low:+.4g}", f"{line.change.high:+.4g}"


def _plain(one: Estimate | None) -> Mapping[str, float | None] | None:
    if one is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(one).items()}
