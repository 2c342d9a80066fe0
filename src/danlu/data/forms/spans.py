"""A question, a context, and the stretches of the context that answer it, as in SQuAD (arXiv:1606.05250) and CMRC 2018.

An answer's place counts characters of the context, so such samples are not edited.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Form, Sample, text_of


@FORMS.register
class Spans(Form):
    """For reading comprehension. A sample without answers says that the context does not tell."""

    columns: ClassVar[Mapping[str, str]] = {"question": "text", "context": "text", "answers": "answers"}

    class Config(Named):
        name: Literal["spans"] = "spans"
        question: str = "question"
        """Field that holds the question."""
        context: str = "context"
        """Field that holds the text in which the answer stands."""
        answers: str = "answers"
        """Field that holds the answers: SQuAD's list of `text` and `answer_start`, the same as two lists, or answers alone,
        which are then looked for in the context."""

    def take(self, record: Mapping[str, Any]) -> tuple[str, Sample]:
        question, context = text_of(record, self.config.question), text_of(record, self.config.context)
        if self.config.answers not in record:
            raise ValueError(f"no field {self.config.answers!r}; it has {', '.join(map(str, list(record)[:8]))}")
        answers = [_placed(answer, context) for answer in _listed(record[self.config.answers])]
        return f"{question}\n\n{context}", {"question": question, "context": context, "answers": answers}

    def edit(self, text: str, sample: Sample, editor: Callable[[str], str]) -> tuple[str, Sample]:
        return text, sample


def _listed(value: Any) -> list[Any]:
    """Answers in any of the forms that are about, as a list of texts or of `{text, answer_start}`."""
    if value is None or value == "":
        return []
    if isinstance(value, Mapping):
        texts, starts = value.get("text", []), value.get("answer_start", [])
        if not isinstance(texts, list):
            return [value]
        if len(texts) != len(starts):
            raise ValueError(f"{len(texts)} answers with {len(starts)} places")
        return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    return value if isinstance(value, list) else [value]


def _placed(answer: Any, context: str) -> dict[str, Any]:
    """Text and place of an answer, the place checked."""
    text = answer.get("text") if isinstance(answer, Mapping) else answer
    if not isinstance(text, str) or not text:
        raise ValueError(f"an answer is {answer!r}, not text")
    start = answer.get("answer_start", answer.get("start", -1)) if isinstance(answer, Mapping) else -1
    start = context.find(text) if start in (None, -1) else start
    if not isinstance(start, int) or start < 0 or context[start : start + len(text)] != text:
        raise ValueError(f"the answer {text[:40]!r} does not stand in the context at its place ({start})")
    return {"text": text, "start": start}
