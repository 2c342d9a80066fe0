"""Sums, differences and products of small numbers, made from a seed: nothing to fetch, and no text holds the answers in order."""

import random
from typing import Literal

from pydantic import Field

from danlu.core.seeds import derive
from danlu.core.settings import Named
from danlu.engine.request import Sampling
from danlu.evaluate.form import context, shown
from danlu.evaluate.generation import numeric
from danlu.evaluate.how import How
from danlu.evaluate.paired import of_values
from danlu.evaluate.subject import Subject
from danlu.evaluate.tasks import TASKS
from danlu.evaluate.tasks.base import Counter, Result, Sample, Task, prompt_ids

_ROOM = 16


@TASKS.register
class Arithmetic(Task):
    """Each question is one line, `37 + 5 =`, behind solved ones; right is the number that the answer's line comes to."""

    name = "arithmetic"

    class Config(Named):
        """What is asked."""

        name: Literal["arithmetic"] = "arithmetic"
        questions: int = Field(200, ge=2)
        """How many questions."""
        largest: int = Field(20, ge=1)
        """Numbers are 0 to this."""
        signs: list[Literal["+", "-", "*"]] = Field(["+", "-", "*"], min_length=1)
        """What is done with two numbers."""
        shots: int = Field(4, ge=0)
        """Solved lines before each question, where --shots says nothing."""
        seed: int = 0
        """Chooses the numbers."""

    def __init__(self, config: Config):
        self.config = config

    def ask(self, subject: Subject, how: How) -> Result:
        """See Task.ask."""
        config, counter = self.config, Counter(self.name, how)
        shots = config.shots if how.shots is None else how.shots
        room = min(_ROOM, subject.context // 2)
        ready = []
        for number in range(min(config.questions, how.limit or config.questions)):
            draw = random.Random(derive(config.seed, self.name, number))  # noqa: S311
            turns = []
            for _ in range(shots):
                question, answer = self._line(draw)
                turns += [("user", question, " "), ("assistant", answer, "\n")]
            question, answer = self._line(draw)
            stands = context(turns, question, how.chat)
            ready.append((number, stands, counter.fit(number, prompt_ids(subject, stands, how), subject.context - room), answer))
        documents = len(ready)
        ready = [one for one in ready if one[0] not in counter.skipped]
        answers = subject.answers([ids for _, _, ids, _ in ready], Sampling(temperature=0, stop=["\n"]), room)
        right = [numeric(one.text, [true]) for one, (*_, true) in zip(answers, ready, strict=True)]
        figures = [of_values("numeric_match", right), of_values("ended by itself", [float(one.ended) for one in answers])]
        samples = [
            Sample(number, shown(stands), one.text, true, bool(hit))
            for (number, stands, _, true), one, hit in zip(ready, answers, right, strict=True)
        ]
        about = {"shots": shots, "largest": config.largest, "signs": " ".join(config.signs), "seed": config.seed}
        return Result(self.name, figures, samples, counter.counts(documents), about)

    def _line(self, draw: random.Random) -> tuple[str, str]:
        one, two, sign = (
            draw.randint(0, self.config.largest),
            draw.randint(0, self.config.largest),
            draw.choice(self.config.signs),
        )
        value = one + two if sign == "+" else one - two if sign == "-" else one * two
        return f"{one} {sign} {two} =", str(value)
