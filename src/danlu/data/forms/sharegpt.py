"""A conversation as ShareGPT and its successors write it: `conversations`, a list of `from` and `value`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Sample
from danlu.data.forms.talk import Talk, check, field, messages_of, said, tools_of, words


@FORMS.register
class ShareGPT(Talk):
    """human and gpt speak in turn; function_call holds a call as JSON, observation its result."""

    columns: ClassVar[Mapping[str, str]] = {"messages": "text", "tools": "text"}
    lists = ("messages",)

    class Config(Named):
        name: Literal["sharegpt"] = "sharegpt"
        conversations: str = "conversations"
        """Field that holds the list of messages."""
        role: str = "from"
        """Key of a message that says who speaks."""
        content: str = "value"
        """Key of a message that holds what is said."""
        system: str = "system"
        """Field that holds what the assistant is told first; it may be missing."""
        tools: str = "tools"
        """Field that lists functions that may be called; it may be missing."""

    def fields(self) -> list[str]:
        return [self.config.conversations]

    def optional(self) -> list[str]:
        return [self.config.system, self.config.tools]

    def read(self, record: Mapping[str, Any]) -> Sample:
        config = self.config
        messages = messages_of(field(record, config.conversations), config.role, config.content)
        if messages[0]["role"] == "system" and not messages[0]["content"].strip():
            del messages[0]
        messages = [*said("system", words(record, config.system)), *messages]
        check(messages)
        return {"messages": messages, "tools": tools_of(record.get(config.tools))}
