"""A conversation in whichever of the usual styles: each record's keys tell (alpaca, sharegpt, messages, completion)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.alpaca import Alpaca
from danlu.data.forms.base import Sample
from danlu.data.forms.completion import Completion
from danlu.data.forms.messages import Messages
from danlu.data.forms.sharegpt import ShareGPT
from danlu.data.forms.talk import Talk


@FORMS.register
class Chat(Talk):
    """For fields with other names choose the style itself, whose settings name them."""

    columns: ClassVar[Mapping[str, str]] = {"messages": "text", "tools": "text"}
    lists = ("messages",)

    class Config(Named):
        name: Literal["chat"] = "chat"

    _styles = (Messages, ShareGPT, Alpaca, Completion)

    def __init__(self, config: Any):
        super().__init__(config)
        self._known = [style(style.Config()) for style in self._styles]

    def optional(self) -> list[str]:
        return sorted({name for style in self._known for name in (*style.fields(), *style.optional())})

    def read(self, record: Mapping[str, Any]) -> Sample:
        there = {key for key, value in record.items() if value is not None}  # tables have a column for every key of any row
        style = next((style for style in self._known if there.issuperset(style.fields())), None)
        if style is None:
            styles = "; ".join(f"{style.config.name}: {' and '.join(style.fields())}" for style in self._known)
            raise ValueError(f"no style of chat has these fields ({', '.join(map(str, list(record)[:8])) or 'none'}): {styles}")
        return style.read(record)
