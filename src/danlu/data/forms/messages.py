"""A conversation as OpenAI's API tells it: `messages` with role and content, tools, calls and reasoning."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Sample
from danlu.data.forms.talk import Talk, check, field, messages_of, said, tools_of, words


@FORMS.register
class Messages(Talk):
    """Content may be a list of text parts; a message of the assistant with `weight` 0 is read and not taught."""

    columns: ClassVar[Mapping[str, str]] = {"messages": "text", "tools": "text"}
    lists = ("messages",)

    class Config(Named):
        name: Literal["messages"] = "messages"
        messages: str = "messages"
        """Field that holds the list of messages."""
        system: str = "system"
        """Field that holds what the assistant is told first, where the list does not begin with it; it may be missing."""
        tools: str = "tools"
        """Field that lists functions that may be called; it may be missing."""
        reasoning: bool = True
        """Keep what the assistant thought before it answered; otherwise answers are learned without it."""

    def fields(self) -> list[str]:
        return [self.config.messages]

    def optional(self) -> list[str]:
        return [self.config.system, self.config.tools]

    def read(self, record: Mapping[str, Any]) -> Sample:
        messages = messages_of(field(record, self.config.messages))
        if not self.config.reasoning:
            messages = [{key: part for key, part in message.items() if key != "reasoning_content"} for message in messages]
        if messages[0]["role"] == "system" and not messages[0]["content"].strip():
            del messages[0]
        messages = [*said("system", words(record, self.config.system)), *messages]
        check(messages)
        return {"messages": messages, "tools": tools_of(record.get(self.config.tools))}
