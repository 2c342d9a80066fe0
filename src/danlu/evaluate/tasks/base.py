"""What a task is: documents become questions, a model answers, answers become figures, with every document accounted for.

A question stands in a context: one text, or the messages of a conversation (`chat`). Text becomes ids as in lm-eval: context
and continuation are tokenised together and then split where the context alone would end; blanks at the end of a context belong
to the continuation. Nothing is put before a text but what the tokenizer itself puts there, unless asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danlu.core.errors import BadInput, PromptTooLong
from danlu.core.settings import load
from danlu.evaluate.how import How
from danlu.evaluate.paired import Figure
from danlu.evaluate.subject import Pair, Subject
from danlu.evaluate.tasks import TASKS
from danlu.models.base import Seq2SeqLM
from danlu.tokenizer.chat import encode_chat
from danlu.tokenizer.frame import frame

Context = str | Sequence[Mapping[str, Any]]


@dataclass
class Sample:
    """One document and what became of it."""

    document: int
    """Its number in the set."""
    asked: str
    said: str
    true: str
    right: bool | None = None
    """None: this task's answers are not simply right or wrong."""
    nats: list[float] = field(default_factory=list)
    """Log-likelihoods of the choices, or of the one continuation."""
    marks: dict[str, float] = field(default_factory=dict)
    """Its own share of each figure that has one a document."""


@dataclass
class Result:
    """What one model made of one task."""

    task: str
    figures: list[Figure]
    """The one that counts first."""
    samples: list[Sample]
    counts: dict[str, int]
    """documents, asked, cut (their beginning), skipped."""
    about: dict[str, Any] = field(default_factory=dict)
    """Circumstances: shots, the form of the answer, where the documents came from."""
    model: str = ""


class Task(ABC):
    """Things on this shelf are built from their Config and asked of any number of models."""

    name: str

    @abstractmethod
    def ask(self, subject: Subject, how: How) -> Result:
        """Put every document to the model. Raises BadInput, PromptTooLong."""

    def sources(self) -> list[Path]:
        """Files that the task is made from, for the record."""
        return []


def opened(told: str) -> Task:
    """A task by its name, or by its YAML file. Raises BadSettings, UnknownName."""
    kind, more = (TASKS["yaml"], {"path": told}) if is_file(told) else (TASKS[told], {})
    return TASKS.build(load(kind.Config, more, f"task {told}"))  # type: ignore[no-any-return]  # a shelf holds anything


def is_file(told: str) -> bool:
    """Whether a word means a task's file."""
    return told.endswith((".yaml", ".yml"))


class Counter:
    """Fits questions into a context and counts what had to be cut or left out."""

    def __init__(self, name: str, how: How):
        self.name, self.how = name, how
        self.cut: set[int] = set()
        self.skipped: set[int] = set()

    def counts(self, documents: int) -> dict[str, int]:
        """What the report says."""
        return {"documents": documents, "asked": documents - len(self.skipped), "cut": len(self.cut - self.skipped),
                "skipped": len(self.skipped)}  # fmt: skip

    def fit(self, document: int, before: Sequence[int], room: int) -> tuple[int, ...]:
        """The end of `before` that fits `room` tokens: cut, counted or refused as was asked for."""
        if len(before) <= room:
            return tuple(before)
        if self.how.overlong == "raise" or room < 1:
            raise PromptTooLong(
                f"task {self.name}, document {document}: the question has {len(before)} tokens, and there is room for {room}. "
                f"Ask with fewer --shots or a smaller max_gen_toks, or say --overlong truncate (cut its beginning) or skip."
            )
        (self.skipped if self.how.overlong == "skip" else self.cut).add(document)
        return tuple(before[-room:])


def begins(subject: Subject, how: How) -> list[int]:
    """Tokens before every text."""
    tokenizer = subject.tokenizer
    if how.begin == "no":
        return []
    if how.begin == "yes":
        return [subject.prefix]
    return list(frame(tokenizer)[0]) if tokenizer.parts.get("post_processor") is not None else []


def prompt_ids(subject: Subject, context: Context, how: How) -> list[int]:
    """Ids of a question. Raises BadInput for an empty one."""
    if not isinstance(context, str):
        return chat_ids(subject, context)
    if isinstance(subject.model.model, Seq2SeqLM):
        before, after = frame(subject.tokenizer)
        return [*before, *subject.tokenizer.encode(context), *after]
    return [*begins(subject, how), *subject.tokenizer.encode(context)] or [subject.prefix]


def pair_ids(subject: Subject, context: Context, continuation: str, how: How) -> Pair:
    """What stands before and what is to be foreseen. Raises BadInput for an empty continuation."""
    if isinstance(subject.model.model, Seq2SeqLM):
        return _pair(prompt_ids(subject, context, how), subject.tokenizer.encode(continuation), continuation)
    if not isinstance(context, str):
        before = _bare(subject, chat_ids(subject, context))
        whole = chat_ids(subject, [*context, {"role": "assistant", "content": continuation}], continued=True)
        return _pair(before, whole[len(before) :], continuation)
    begin, encode = begins(subject, how), subject.tokenizer.encode
    bare = context.rstrip()
    if not bare:  # nothing to go by
        after = encode(context + continuation)
        if after and after[0] == subject.prefix and len(after) > 1:
            return _pair(after[:1], after[1:], continuation)
        return _pair([subject.prefix], after, continuation)
    whole, alone = encode(context + continuation), encode(bare)
    return _pair([*begin, *alone], whole[len(alone) :], continuation)


def chat_ids(subject: Subject, messages: Sequence[Mapping[str, Any]], continued: bool = False) -> list[int]:
    """Ids of a conversation up to where the assistant speaks. Raises BadInput without a chat template."""
    template = subject.tokenizer.chat_template
    if not template:
        raise BadInput(f"{subject.model.path} has no chat template. Leave --chat out: the task is then put as plain text.")
    return encode_chat(subject.tokenizer, template, messages, continue_final=continued)


def _bare(subject: Subject, ids: list[int]) -> list[int]:
    """Without the line break that opens an answer in most templates: lm-eval counts it as the continuation's."""
    while len(ids) > 1 and subject.tokenizer.decode(ids[-1:]).isspace():
        ids = ids[:-1]
    return ids


def _pair(before: Sequence[int], after: Sequence[int], continuation: str) -> Pair:
    if not after:
        raise BadInput(f"the continuation {continuation!r} has no token of its own behind its context: nothing can be foreseen.")
    return Pair(tuple(before), tuple(after))
