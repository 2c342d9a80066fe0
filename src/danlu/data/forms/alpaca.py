"""An instruction, perhaps with an input, and its answer, as in Alpaca (Taori et al. 2023)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Sample
from danlu.data.forms.talk import Talk, check, field, prompt_of, said, tools_of, words


@FORMS.register
class Alpaca(Talk):
    """A chat of one turn, or of more where earlier turns stand in `history`, a list of pairs."""

    columns: ClassVar[Mapping[str, str]] = {"messages": "text", "tools": "text"}
    lists = ("messages",)

    class Config(Named):
        name: Literal["alpaca"] = "alpaca"
        instruction: str = "instruction"
        """Field that holds what is asked."""
        input: str = "input"
        """Field that holds what it is asked about; it follows the instruction after a blank line and may be missing."""
        output: str = "output"
        """Field that holds the answer."""
        system: str = "system"
        """Field that holds what the assistant is told first; it may be missing."""
        history: str = "history"
        """Field that holds earlier turns as pairs of what was asked and answered; it may be missing."""
        tools: str = "tools"
        """Field that lists functions that may be called; it may be missing."""

    def fields(self) -> list[str]:
        return [self.config.instruction, self.config.output]

    def optional(self) -> list[str]:
        return [self.config.input, self.config.system, self.config.history, self.config.tools]

    def read(self, record: Mapping[str, Any]) -> Sample:
        config = self.config
        messages = said("system", words(record, config.system))
        history = record.get(config.history) or []
        if not isinstance(history, list):
            raise ValueError(f"field {config.history!r} is {type(history).__name__}, not a list of pairs")
        for number, pair in enumerate(history, 1):
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                raise ValueError(f"field {config.history!r}: entry {number} is no pair of a question and its answer")
            messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
        answer = field(record, config.output)
        if not isinstance(answer, str):
            raise ValueError(f"field {config.output!r} is {type(answer).__name__}, not text")
        messages.append({"role": "user", "content": prompt_of(record, f"{config.instruction},{config.input}")})
        messages.append({"role": "assistant", "content": answer})
        check(messages)
        return {"messages": messages, "tools": tools_of(record.get(config.tools))}
