"""A text and its label: a class name, or a number."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Form, Sample, value_of, word_of
from danlu.data.readers.base import pick


@FORMS.register
class Labels(Form):
    """For classification, regression, and embeddings in which texts of one label belong together."""

    columns: ClassVar[Mapping[str, str]] = {"label": "text"}

    class Config(Named):
        name: Literal["labels"] = "labels"
        text: str = "text"
        """Field that holds the text; several, separated by commas, are joined by a blank line."""
        label: str = "label"
        """Field that holds the label, a name or a number."""

    def take(self, record: Mapping[str, Any]) -> tuple[str, Sample]:
        return pick(record, self.config.text), {"label": word_of(value_of(record, self.config.label), self.config.label)}
