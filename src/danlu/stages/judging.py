"""What a run changed: the model before and after it, on text it should not forget, on held-out prompts, on tasks."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from danlu.core import log
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Settings

if TYPE_CHECKING:
    from danlu.core.page import Page
    from danlu.evaluate.change import Facts, Line, Probes, Question
    from danlu.stages.teaching import Lesson


class Judging(Settings):
    """What the model is asked before and after the run; none of it changes what is learned."""

    text: list[Path] = Field([])
    """Text files that it should not forget; left out, the held-out part of the text that it was pre-trained on, where its record
    leads to it."""
    text_tokens: int = Field(20_000, ge=0)
    """Most tokens of that text; 0: none."""
    questions: int = Field(32, ge=0)
    """Held-out prompts to answer; 0: none."""
    answer_tokens: int | None = Field(None, ge=1)
    """Most tokens of such an answer; left out: 128, or a quarter of the model's context where that is less."""
    tasks: list[str] = Field([])
    """Tasks by name (danlu list tasks), or YAML files of them."""


@dataclass
class Change:
    """What was found."""

    before: "Facts"
    after: "Facts"
    lines: "list[Line]"
    questions: "Sequence[Question]"
    tokenizer: Any

    def figures(self) -> dict[str, Any]:
        """Plain numbers for the record."""
        from danlu.evaluate import change

        return change.figures(self.lines)

    def summary(self) -> str:
        """A few lines for the terminal."""
        from danlu.evaluate import change

        return change.summary(self.lines)

    def add_to(self, page: "Page") -> None:
        """Its part of the report."""
        from danlu.evaluate import change

        change.add_to(page, self.lines, self.before, self.after, self.tokenizer)


def judge(config: Any, model: Any, lesson: "Lesson") -> Change | None:
    """Ask the model as it is now, and as it began; None where there is nothing to ask."""
    from danlu.engine.model import Model
    from danlu.evaluate import change
    from danlu.models.adapters.base import disabled, is_adapted
    from danlu.stages.speaking import ends

    probes = probes_of(config, lesson)
    if not (probes.texts or probes.questions or probes.tasks):
        return None
    stops = frozenset(ends(config, lesson.tokenizer))
    after = Model(model, lesson.tokenizer, config.model, stops, fast=False)
    within: Callable[[], AbstractContextManager[Any]] = nullcontext
    if is_adapted(model):
        before, within = Model(model, lesson.tokenizer, config.model, stops, fast=False), lambda: disabled(model)
    else:
        before = Model(lesson.beginning().to(model.device).eval(), lesson.tokenizer, config.model, stops, fast=False)
    log.say(f"before and after: {len(probes.texts)} texts, {len(probes.questions)} held-out prompts, {len(probes.tasks)} tasks")
    with within():
        first = change.measure(before, probes)
    second = change.measure(after, probes)
    if second.skipped:
        log.warn(f"{second.skipped} held-out prompts leave no room for an answer of {probes.room} tokens and were not asked")
    lines = change.compare(first, second, change.drift(after, before, second, within))
    return Change(first, second, lines, probes.questions, lesson.tokenizer)


def probes_of(config: Any, lesson: "Lesson") -> "Probes":
    """What both are asked."""
    from danlu.evaluate import change
    from danlu.evaluate.how import How

    asked = config.judge
    found = [one for encoded in held_out(lesson) for one in questions(encoded, lesson.tokenizer)]
    return change.Probes(
        texts=texts(config),
        questions=change.spread(found, asked.questions, config.seed) if asked.questions else (),
        tasks=tasks(asked.tasks), how=How(chat=True),
        room=asked.answer_tokens or min(128, max(lesson.model.config.context // 4, 1)), seed=config.seed,
    )  # fmt: skip


def held_out(lesson: "Lesson") -> list[Any]:
    """Encoded samples that were not trained on; none where the dataset has none."""
    part = lesson.samples.get("validation")
    return list(part.encoded) if part else []


def questions(encoded: Any, tokenizer: Any) -> "list[Question]":
    """The questions of a sample: of two answers the first; a prompt without an answer is a question by itself."""
    from danlu.evaluate.change import Question, questions_of
    from danlu.tokenizer.turns import ends_of

    own = encoded.documents == 0
    ids, targets = encoded.ids[own], encoded.targets[own]
    if (targets == NO_LABEL).all():
        return [Question(tuple(ids.tolist()), (), "")]
    return questions_of(ids.tolist(), targets.tolist(), tokenizer, frozenset(ends_of(tokenizer)))


def texts(config: Any) -> list[str]:
    """Running text that should not be forgotten."""
    from danlu.evaluate.text import read_texts
    from danlu.stages.unseen import first, unseen

    asked = config.judge
    if not asked.text_tokens:
        return []
    found = list(first(iter(read_texts(asked.text)), asked.text_tokens)) if asked.text else None
    if found is None:
        found = unseen(config.model, asked.text_tokens, plain=True)[0]
        if not found:
            log.say(f"nothing leads from {config.model} to text that it was pre-trained on, so what is forgotten is not measured "
                    f"(--judge.text FILE...)")  # fmt: skip
    return [one.text for one in found]


def tasks(names: Sequence[str]) -> list[Any]:
    """Tasks by name or file."""
    if not names:
        return []
    from danlu.evaluate.tasks.base import opened

    return [opened(name) for name in names]
