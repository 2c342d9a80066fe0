"""A prompt and its completion, each a text or a list of messages."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Sample
from danlu.data.forms.talk import Talk, check, field, said, tools_of, turns_of, words


@FORMS.register
class Completion(Talk):
    """A text is what a user asks, its completion what an assistant answers."""

    columns: ClassVar[Mapping[str, str]] = {"messages": "text", "tools": "text"}
    lists = ("messages",)

    class Config(Named):
        name: Literal["completion"] = "completion"
        prompt: str = "prompt"
        """Field that holds what is asked: a text, or a list of messages."""
        completion: str = "completion"
        """Field that holds the answer: a text, or a list of messages that follow the prompt's."""
        system: str = "system"
        """Field that holds what the assistant is told first; it may be missing."""
        tools: str = "tools"
        """Field that lists functions that may be called; it may be missing."""

    def fields(self) -> list[str]:
        return [self.config.prompt, self.config.completion]

    def optional(self) -> list[str]:
        return [self.config.system, self.config.tools]

    def read(self, record: Mapping[str, Any]) -> Sample:
        config = self.config
        prompt = turns_of(field(record, config.prompt), "user")
        messages = [*said("system", words(record, config.system)), *prompt]
        check(messages, answered=False)
        messages += turns_of(field(record, config.completion), "assistant")
        check(messages)
        return {"messages": messages, "tools": tools_of(record.get(config.tools))}
