"""How a document becomes a question, its choices and its answer: the templates of a task's file, filled in.

A template is a column's name or jinja2 (in the sandbox that chat templates have, with lm-eval's options: blanks stay, and a
column that is missing is an error). A text of digits is a choice's number where there are choices.
"""

import ast
import functools
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import StrictUndefined, TemplateError

from danlu.core.errors import BadInput
from danlu.evaluate.described import Described
from danlu.evaluate.tasks.base import Context
from danlu.evaluate.tasks.documents import Document
from danlu.tokenizer.template import environment

Turn = tuple[str, str, str]
"""Who, what, and what stands behind it in plain text."""


class Form:
    """The templates of one task."""

    def __init__(self, task: Described, columns: Sequence[str]):
        self.task, self._columns = task, frozenset(columns)

    def question(self, document: Document) -> str | int:
        """The text, or which of the choices is right where these stand in the context."""
        found = self._filled(self.task.doc_to_text, document, "doc_to_text")
        return int(found) if isinstance(found, str) and found.isdigit() and self._has_choices else found  # type: ignore[no-any-return]

    def target(self, document: Document) -> Any:
        """The answer, a list of answers, or which choice is right."""
        found = self._filled(self.task.doc_to_target, document, "doc_to_target")
        if self._is_column(self.task.doc_to_target) or not isinstance(found, str):
            return found
        if found.isdigit() and self._has_choices:
            return int(found)
        return _listed(found) if found[:1] == "[" and found[-1:] == "]" else found

    def choices(self, document: Document) -> list[str]:
        """All choices. Raises BadInput where there is none, or one is no text."""
        told = self.task.doc_to_choice
        if isinstance(told, list):
            found: Any = told
        elif isinstance(told, Mapping):
            found = list(told.values())
        else:
            found = self._filled(told, document, "doc_to_choice")
            if not self._is_column(told):
                found = _listed(found)
        if not isinstance(found, list | tuple) or not found or not all(isinstance(one, str) and one for one in found):
            raise BadInput(f"task {self.task.task}: doc_to_choice gives {found!r}, no list of texts, for {_short(document)}")
        return list(found)

    def turns(self, document: Document, shots: Sequence[Document]) -> list[Turn]:
        """The description and the examples, with their answers."""
        said: list[Turn] = []
        if self.task.description:
            said.append(("system", str(self._filled(self.task.description, document, "description")), ""))
        for one in shots:
            question, answer = self.question(one), self.target(one)
            if isinstance(question, int):
                question = self.choices(one)[question]
            elif isinstance(answer, int) and self._has_choices:
                answer = self.choices(one)[answer]
            answer = answer[0] if isinstance(answer, list) else answer
            said += [("user", question, self.task.target_delimiter), ("assistant", str(answer), self.task.fewshot_delimiter)]
        return [turn for turn in said if turn[1]]

    @property
    def _has_choices(self) -> bool:
        return self.task.doc_to_choice is not None

    def _is_column(self, template: Any) -> bool:
        return isinstance(template, str) and template in self._columns

    def _filled(self, template: Any, document: Document, key: str) -> Any:
        if not isinstance(template, str):
            return template
        if template in self._columns:
            return document[template]
        try:
            return _compiled(template).render(**document)
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise BadInput(f"task {self.task.task}: {key} cannot be filled in: {error} (document {_short(document)})") from None


class Shots:
    """Draws examples, document after document, as lm-eval does from the same seed; never the document itself."""

    def __init__(self, task: Described, documents: Sequence[Document], count: int, seed: int, own: bool):
        """own: whether the documents that are asked are among these."""
        self._documents, self._count, self._own = list(documents), count, own
        self._random, self._first = random.Random(seed), task.fewshot_config.get("sampler") == "first_n"  # noqa: S311
        most = max(len(self._documents) - own, 0)
        if count > most:
            raise BadInput(f"task {task.task}: {count} examples are asked for before each question, and there are {most}.")

    def of(self, document: Document) -> list[Document]:
        """The examples before one document."""
        if not self._count:
            return []
        if self._first:
            return [one for one in self._documents if not self._own or one != document][: self._count]
        if not self._own:
            return self._random.sample(self._documents, self._count)
        drawn = [one for one in self._random.sample(self._documents, self._count + 1) if one != document]
        if len(drawn) < self._count:  # the document stands in the data several times
            others = [one for one in self._documents if one != document]
            if len(others) < self._count:
                raise BadInput(f"{self._count} examples are asked for, and {len(others)} documents differ from the one asked.")
            drawn = self._random.sample(others, self._count)
        return drawn[: self._count]


def context(turns: Sequence[Turn], question: str, chat: bool) -> Context:
    """The whole of what stands before an answer: one text, or messages."""
    if chat:
        return [*({"role": role, "content": said} for role, said, _ in turns), {"role": "user", "content": question}]
    return "".join(said + behind for _, said, behind in turns) + question


def shown(asked: Context) -> str:
    """A context for people to read."""
    if isinstance(asked, str):
        return asked
    return "\n".join(f"[{message['role']}] {message['content']}" for message in asked)


@functools.lru_cache(maxsize=64)
def _compiled(template: str) -> Any:
    made = environment().overlay(trim_blocks=False, lstrip_blocks=False, keep_trailing_newline=True, undefined=StrictUndefined)
    made.filters = {**made.filters, "regex_replace": _replaced}
    try:
        return made.from_string(template)
    except TemplateError as error:
        raise BadInput(f"the template {template!r} cannot be read: {error}.") from None


def _replaced(text: str, pattern: str, by: str, count: int = 0) -> str:
    return re.sub(pattern, by, text, count=count)


def _listed(text: str) -> Any:
    """A list that was written as text; any other text as it is."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _short(document: Document) -> str:
    return repr(document)[:200]
