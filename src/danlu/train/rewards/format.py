"""Whether an answer has the wanted form: tags in their order, such as <think>...</think><answer>...</answer>, or a pattern."""

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward


@REWARDS.register
class Format(Reward):
    """Between 0 and 1. With tags, only blanks may stand outside them; each is opened and closed once and holds something."""

    class Config(Reward.Config):
        name: Literal["format"] = "format"
        tags: str = "think,answer"
        """The tags in their order, separated by commas."""
        pattern: str = ""
        """A regular expression that the whole answer must match, in place of tags; a dot stands for line ends as well."""
        partial: bool = False
        """Whether a part of the form is worth a part of 1: each tag's beginning and end found exactly once counts alike."""
        opened: bool = False
        """Whether the chat template has written the first tag's beginning, so that answers start inside it."""

        @model_validator(mode="after")
        def _readable(self) -> Self:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"the pattern {self.pattern!r} is no regular expression: {error}") from None
            if not self.pattern and not all(re.fullmatch(r"[\w-]+", tag) for tag in self.tags.split(",")):
                raise ValueError(f"the tags {self.tags!r} are no names separated by commas, as in think,answer")
            return self

    def score(self, asked: Sequence[Asked]) -> list[float]:
        if self.config.pattern:
            whole = re.compile(self.config.pattern, re.DOTALL)
            return [float(whole.fullmatch(one.answer) is not None) for one in asked]
        return [self._tagged(one.answer) for one in asked]

    def _tagged(self, answer: str) -> float:
        tags = self.config.tags.split(",")
        answer = f"<{tags[0]}>{answer}" if self.config.opened else answer
        marks = [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]
        once = [answer.count(mark) == 1 for mark in marks]
        form = re.compile(r"\s*".join(["", *(f"<{tag}>(.*)</{tag}>" for tag in tags), ""]), re.DOTALL)
        found = form.fullmatch(answer) if all(once) else None
        if found and all(map(str.strip, found.groups())):
            return 1.0
        given = self.config.opened  # what the template wrote is no merit
        return (sum(once) - given) / (len(once) - given) * _MOST_PARTIAL if self.config.partial else 0.0


_MOST_PARTIAL = 0.75
"""All tags, but in the wrong order or with text outside."""
