"""An answer and whether it is good: what Kahneman-Tversky optimisation (KTO) learns from."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS, asked
from danlu.data.forms.base import Sample, word_of
from danlu.data.forms.talk import Talk, check, said, tools_of, words

_JUDGED = {"true": "true", "1": "true", "yes": "true", "good": "true", "desirable": "true", "false": "false", "0": "false",
           "-1": "false", "no": "false", "bad": "false", "undesirable": "false"}  # fmt: skip


@FORMS.register
class Judged(Talk):
    """A prompt with a completion, or one list of messages whose last is the answer that was judged."""

    columns: ClassVar[Mapping[str, str]] = {"prompt": "text", "completion": "text", "label": "text", "tools": "text"}
    lists = ("prompt", "completion")

    class Config(Named):
        name: Literal["judged"] = "judged"
        prompt: str = ""
        """Field that holds what is answered, a text or a list of messages; several texts, separated by commas, are joined by a
        blank line. Left out: prompt, messages, conversations, instruction with input, or question, whichever there is."""
        completion: str = "completion"
        """Field that holds the answer; where it is missing the prompt's last message is the answer."""
        label: str = "label"
        """Field that says whether the answer is good: true or false, 1 or 0, yes or no, good or bad."""
        system: str = "system"
        """Field that holds what the assistant is told first; it may be missing."""
        tools: str = "tools"
        """Field that lists functions that may be called; it may be missing."""

    def fields(self) -> list[str]:
        return [*filter(None, self.config.prompt.split(",")), self.config.label]

    def optional(self) -> list[str]:
        known = () if self.config.prompt else asked.KNOWN
        return [*known, self.config.completion, self.config.system, self.config.tools]

    def read(self, record: Mapping[str, Any]) -> Sample:
        config = self.config
        if record.get(config.label) is None:
            raise ValueError(f"no field {config.label!r}; it has {', '.join(map(str, list(record)[:8])) or 'none'}")
        label = _JUDGED.get(word_of(record[config.label], config.label).lower())
        if label is None:
            raise ValueError(f"field {config.label!r} is {record[config.label]!r}, neither true nor false")
        prompt = asked.prompt(record, config.prompt)
        if not prompt:
            raise ValueError(f"no field holds a prompt ({', '.join(asked.KNOWN)})")
        if record.get(config.completion):
            completion = asked.behind(prompt, asked.answer(record, config.completion))
        else:
            prompt, completion = prompt[:-1], prompt[-1:]
        prompt = [*said("system", words(record, config.system)), *prompt]
        check([*prompt, *completion])
        check(prompt, answered=False)
        return {"prompt": prompt, "completion": completion, "label": label, "tools": tools_of(record.get(config.tools))}
