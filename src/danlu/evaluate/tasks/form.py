"""Whether answers keep the form that was asked for and end by themselves: a word of two, a number, a list, a JSON object.

What is said in that form may be wrong: this task asks whether a model does as it is told, arithmetic.py whether it is right.
"""

import json
import random
import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from danlu.core.seeds import derive
from danlu.core.settings import Named
from danlu.engine.request import Sampling
from danlu.evaluate.form import context, shown
from danlu.evaluate.how import How
from danlu.evaluate.paired import of_values
from danlu.evaluate.subject import Subject
from danlu.evaluate.tasks import TASKS
from danlu.evaluate.tasks.base import Counter, Result, Sample, Task, prompt_ids

_ROOM = 32


@TASKS.register
class KeepsForm(Task):
    """Questions made from a seed, in English or Chinese; for models that follow instructions, with --chat."""

    name = "form"

    class Config(Named):
        """What is asked."""

        name: Literal["form"] = "form"
        questions: int = Field(60, ge=2)
        """How many questions."""
        language: Literal["en", "zh"] = "en"
        """Language of the questions."""
        seed: int = 0
        """Chooses the numbers."""

    def __init__(self, config: Config):
        self.config = config

    def ask(self, subject: Subject, how: How) -> Result:
        """See Task.ask. Plain text asks for what stands behind `Answer:`, and a line break ends it."""
        counter, room = Counter(self.name, how), min(_ROOM, subject.context // 2)
        ready = []
        for number in range(min(self.config.questions, how.limit or self.config.questions)):
            question, wanted, keeps = self._question(number)
            stands = context([], question if how.chat else f"{question}\nAnswer:", how.chat)
            ids = counter.fit(number, prompt_ids(subject, stands, how), subject.context - room)
            ready.append((number, stands, ids, wanted, keeps))
        documents = len(ready)
        ready = [one for one in ready if one[0] not in counter.skipped]
        stops = [] if how.chat else ["\n"]
        answers = subject.answers([one[2] for one in ready], Sampling(temperature=0, stop=stops), room)
        kept = [float(one.ended and one_asked[4](one.text.strip())) for one, one_asked in zip(answers, ready, strict=True)]
        figures = [of_values("form kept", kept), of_values("ended by itself", [float(one.ended) for one in answers]),
                   of_values("tokens of an answer", [len(one.ids) for one in answers], "")]  # fmt: skip
        samples = [
            Sample(number, shown(stands), one.text, wanted, bool(hit))
            for (number, stands, _, wanted, _), one, hit in zip(ready, answers, kept, strict=True)
        ]
        about = {"shots": 0, "language": self.config.language, "seed": self.config.seed}
        return Result(self.name, figures, samples, counter.counts(documents), about)

    def _question(self, number: int) -> tuple[str, str, Callable[[str], bool]]:
        draw = random.Random(derive(self.config.seed, self.name, number))  # noqa: S311
        one, two = draw.randint(0, 20), draw.randint(0, 20)
        questions, zh = _QUESTIONS[number % len(_QUESTIONS)], self.config.language == "zh"
        english, chinese, wanted, keeps = questions
        return (chinese if zh else english).format(one=one, two=two), wanted, keeps


def _is_object(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and set(found) == {"sum"} and isinstance(found["sum"], int)


def _like(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text, re.IGNORECASE) is not None


_QUESTIONS: list[tuple[str, str, str, Callable[[str], bool]]] = [
    ("Is {one} more than {two}? Say yes or no and nothing else.", "{one} 大于 {two} 吗？只说“是”或“否”，不要说别的。",
     "yes, no / 是, 否", _like(r"(yes|no|是|否)[.。]?")),
    ("What is {one} plus {two}? Give the number only.", "{one} 加 {two} 等于几？只给出数字。",
     "a number", _like(r"-?\d+[.。]?")),
    ("Name three numbers above {one}, with commas between them and nothing else.",
     "写出三个大于 {one} 的数，用逗号隔开，不要写别的。", "three numbers",
     _like(r"\d+\s*[,，、]\s*\d+\s*[,，、]\s*\d+[.。]?")),
    ('Write the sum of {one} and {two} as a JSON object with the one key "sum".',
     '把 {one} 与 {two} 的和写成一个 JSON 对象，只有一个键 "sum"。', '{"sum": ...}', _is_object),
]  # fmt: skip
"""English, Chinese, the form in words, whether an answer keeps it."""
