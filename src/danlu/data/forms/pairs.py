"""Two texts that belong together, such as a question and its answer: what embeddings learn from."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Form, Sample, text_of


@FORMS.register
class Pairs(Form):
    """Both texts are edited like prose."""

    columns: ClassVar[Mapping[str, str]] = {"query": "text", "positive": "text"}

    class Config(Named):
        name: Literal["pairs"] = "pairs"
        query: str = "query"
        """Field that holds the text that is asked with."""
        positive: str = "positive"
        """Field that holds a text that belongs to it."""

    def take(self, record: Mapping[str, Any]) -> tuple[str, Sample]:
        sample = {"query": text_of(record, self.config.query), "positive": text_of(record, self.config.positive)}
        return "\n\n".join(sample.values()), sample

    def edit(self, text: str, sample: Sample, editor: Callable[[str], str]) -> tuple[str, Sample]:
        sample = {name: editor(part) for name, part in sample.items()}
        return "\n\n".join(sample.values()), sample
