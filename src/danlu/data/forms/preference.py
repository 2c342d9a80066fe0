"""A prompt with a better and a worse answer: what reward models and direct preference optimisation learn from."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS, asked
from danlu.data.forms.base import Sample
from danlu.data.forms.talk import Talk, check, said, tools_of, words

_SAME = "both answers are the same, so neither is better"


@FORMS.register
class Preference(Talk):
    """Without a field for the prompt it is what both answers begin with, as messages or in the manner of hh-rlhf."""

    columns: ClassVar[Mapping[str, str]] = {"prompt": "text", "chosen": "text", "rejected": "text", "tools": "text"}
    lists = ("prompt", "chosen", "rejected")

    class Config(Named):
        name: Literal["preference"] = "preference"
        prompt: str = ""
        """Field that holds what is answered, a text or a list of messages; several texts, separated by commas, are joined by a
        blank line. Left out: prompt, messages, conversations, instruction with input, or question, whichever there is."""
        chosen: str = "chosen"
        """Field that holds the better answer, a text or messages."""
        rejected: str = "rejected"
        """Field that holds the worse answer, a text or messages."""
        system: str = "system"
        """Field that holds what the assistant is told first; it may be missing."""
        tools: str = "tools"
        """Field that lists functions that may be called; it may be missing."""

    def fields(self) -> list[str]:
        return [*filter(None, self.config.prompt.split(",")), self.config.chosen, self.config.rejected]

    def optional(self) -> list[str]:
        return [*(() if self.config.prompt else asked.KNOWN), self.config.system, self.config.tools]

    def read(self, record: Mapping[str, Any]) -> Sample:
        config = self.config
        prompt = asked.prompt(record, config.prompt)
        chosen, rejected = (asked.behind(prompt, asked.answer(record, key)) for key in (config.chosen, config.rejected))
        if chosen == rejected:
            raise ValueError(_SAME)
        if not prompt:
            count = asked.shared(chosen, rejected)
            prompt, chosen, rejected = chosen[:count], chosen[count:], rejected[count:]
            if not prompt:
                raise ValueError(f"no field holds a prompt ({', '.join(asked.KNOWN)}), and the answers do not begin alike")
        prompt = [*said("system", words(record, config.system)), *prompt]
        check(prompt, answered=False)
        for name, answer in ((config.chosen, chosen), (config.rejected, rejected)):
            try:
                check([*prompt, *answer])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "tools": tools_of(record.get(config.tools))}

    def edit(self, text: str, sample: Sample, editor: Callable[[str], str]) -> tuple[str, Sample]:
        text, sample = super().edit(text, sample, editor)
        if sample["chosen"] == sample["rejected"]:
            raise ValueError(_SAME)
        return text, sample
