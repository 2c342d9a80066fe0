"""A prompt whose answer can be checked: what reinforcement learning with verifiable rewards learns from."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS, asked
from danlu.data.forms.base import Sample
from danlu.data.forms.talk import Talk, check, compact, said, tools_of, words


@FORMS.register
class Verifiable(Talk):
    """The answer is kept as it is: it is compared, or says in JSON what a reward needs; editors leave it alone."""

    columns: ClassVar[Mapping[str, str]] = {"prompt": "text", "answer": "text", "tools": "text"}
    lists = ("prompt",)

    class Config(Named):
        name: Literal["verifiable"] = "verifiable"
        prompt: str = ""
        """Field that holds what is asked, a text or a list of messages; several texts, separated by commas, are joined by a
        blank line. Left out: prompt, messages, conversations, instruction with input, or question, whichever there is."""
        answer: str = "answer"
        """Field that holds the right answer: text, a number, or anything else, which is kept as JSON."""
        answer_after: str = ""
        """The answer is what follows the last of these marks in its field, as in `--form.answer_after '####'` for GSM8K."""
        system: str = "system"
        """Field that holds what the assistant is told first; it may be missing."""
        tools: str = "tools"
        """Field that lists functions that may be called; it may be missing."""

    def fields(self) -> list[str]:
        return [*filter(None, self.config.prompt.split(",")), self.config.answer]

    def optional(self) -> list[str]:
        return [*(() if self.config.prompt else asked.KNOWN), self.config.system, self.config.tools]

    def text(self, sample: Sample) -> str:
        return f"{super().text(sample)}\n\n{sample['answer']}"

    def read(self, record: Mapping[str, Any]) -> Sample:
        config = self.config
        prompt = asked.prompt(record, config.prompt)
        if not prompt:
            raise ValueError(f"no field holds a prompt ({', '.join(asked.KNOWN)})")
        prompt = [*said("system", words(record, config.system)), *prompt]
        check(prompt, answered=False)
        return {"prompt": prompt, "answer": self._answer(record), "tools": tools_of(record.get(config.tools))}

    def _answer(self, record: Mapping[str, Any]) -> str:
        key, mark = self.config.answer, self.config.answer_after
        if key not in record:
            raise ValueError(f"no field {key!r}; it has {', '.join(map(str, list(record)[:8])) or 'none'}")
        found = record[key]
        text = found if isinstance(found, str) else "" if found is None else compact(found)
        if mark and mark not in text:
            raise ValueError(f"field {key!r} holds no {mark!r}")
        text = text.rpartition(mark)[2].strip() if mark else text
        if not text.strip():
            raise ValueError(f"field {key!r} is empty")
        return text
