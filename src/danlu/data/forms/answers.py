"""A prompt and its answer: a text and its translation, its summary, its reply; what encoder-decoders learn from."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Form, Sample, text_of


@FORMS.register
class Answers(Form):
    """Both texts are edited like prose. Filters and copies go by both together: a pair stays or goes whole."""

    columns: ClassVar[Mapping[str, str]] = {"prompt": "text", "answer": "text"}

    class Config(Named):
        name: Literal["answers"] = "answers"
        prompt: str = "prompt"
        """Field that holds what is read."""
        answer: str = "answer"
        """Field that holds what is to be written."""

    def take(self, record: Mapping[str, Any]) -> tuple[str, Sample]:
        sample = {"prompt": text_of(record, self.config.prompt), "answer": text_of(record, self.config.answer)}
        return "\n\n".join(sample.values()), sample

    def edit(self, text: str, sample: Sample, editor: Callable[[str], str]) -> tuple[str, Sample]:
        sample = {name: editor(part) for name, part in sample.items()}
        return "\n\n".join(sample.values()), sample
