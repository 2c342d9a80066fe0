"""Programs that must pass their tests: HumanEval's form (arXiv:2107.03374), pass@k, in a sandbox that the stage brings.

A line of the file has `prompt` (the beginning of a function), `test` (a function `check`) and `entry_point` (what is checked).
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from danlu.core.errors import BadInput, BadSettings
from danlu.core.seeds import derive
from danlu.core.settings import Named
from danlu.engine.request import Sampling
from danlu.evaluate.form import context, shown
from danlu.evaluate.how import How
from danlu.evaluate.paired import of_values
from danlu.evaluate.subject import Subject
from danlu.evaluate.tasks import TASKS, documents
from danlu.evaluate.tasks.base import Counter, Result, Sample, Task, prompt_ids
from danlu.metrics.pass_at_k import pass_at_k

_ENDS = ["\nclass ", "\ndef ", "\n#", "\nif ", "\nprint("]
"""What begins something else behind a function's body."""
_BLOCK = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)

Run = Callable[[Sequence[tuple[str, str]]], list[str]]
"""Runs programs, each with its test, in a sandbox: what was wrong with each, empty where it passed."""


@TASKS.register
class Code(Task):
    """One answer a question is the likeliest; of several, each is drawn."""

    name = "code"
    run: Run | None = None
    """Set by the stage: running foreign programs is not this floor's business."""

    class Config(Named):
        """What is asked."""

        name: Literal["code"] = "code"
        path: Path
        """JSON Lines in HumanEval's form, perhaps gzipped."""
        folder: Path | None = None
        """Where a relative path lies; left out: where the command runs."""
        answers: int = Field(1, ge=1)
        """Programs for each question."""
        k: list[int] = Field([1], min_length=1)
        """pass@k for these k, none above `answers`."""
        temperature: float = Field(0.8, gt=0)
        """Of drawn answers, where there are several."""
        room: int = Field(256, ge=1)
        """Most tokens of an answer."""
        sandbox: Literal["auto", "bubblewrap", "landlock", "rlimits"] = "auto"
        """What keeps a program in; rlimits, which keeps little in, is taken only by name."""

    def __init__(self, config: Config):
        self.config = config
        if max(config.k) > config.answers or min(config.k) < 1:
            raise BadSettings(f"task code: k {config.k} with {config.answers} answers a question: each k is 1 to that many.")

    def sources(self) -> list[Path]:
        """See Task.sources."""
        return documents.find(str(self.config.path), [self.config.folder or Path()])

    def ask(self, subject: Subject, how: How) -> Result:
        """See Task.ask. Raises BadSettings where nobody brought a sandbox."""
        if self.run is None:
            raise BadSettings("task code runs programs in a sandbox, which `danlu evaluate` brings; here there is none.")
        if self.config.room >= subject.context:
            raise BadInput(
                f"task code: answers of up to {self.config.room} tokens leave no room for a question in the context of "
                f"{subject.model.path}, {subject.context}. Say `room` in the recipe, fewer than that."
            )
        asked = documents.read("json", str(self.config.path), "train", [self.config.folder or Path()])[: how.limit]
        if lacking := {"prompt", "test", "entry_point"} - asked[0].keys():
            raise BadInput(f"{self.config.path}: its lines have no {', '.join(sorted(lacking))}.")
        counter, room, ready = Counter(self.name, how), self.config.room, []
        for number, document in enumerate(asked):
            stands = context([], document["prompt"] if not how.chat else _instruction(document["prompt"]), how.chat)
            ids = counter.fit(number, prompt_ids(subject, stands, how), subject.context - room)
            ready.append((number, document, stands, ids))
        ready = [one for one in ready if one[0] not in counter.skipped]
        many = self.config.answers
        sampling = Sampling(temperature=self.config.temperature if many > 1 else 0, stop=[] if how.chat else _ENDS)
        seeds = [derive(how.seed, self.name, number, copy) for number, *_ in ready for copy in range(many)]
        said = subject.answers([one[3] for one in ready for _ in range(many)], sampling, room, seeds)
        programs = [_program(document["prompt"], said[at * many + copy].text) for at, (_, document, *_) in enumerate(ready)
                    for copy in range(many)]  # fmt: skip
        tests = [f"{document['test']}\ncheck({document['entry_point']})" for _, document, *_ in ready for _ in range(many)]
        wrong = self.run(list(zip(programs, tests, strict=True)))
        passed = [sum(not one for one in wrong[at * many : (at + 1) * many]) for at in range(len(ready))]
        figures = [of_values(f"pass@{k}", [pass_at_k(many, count, k) for count in passed]) for k in self.config.k]
        samples = [
            Sample(number, shown(stands), said[at * many].text, wrong[at * many] or "passed", not wrong[at * many],
                   marks={"passed": float(passed[at])})
            for at, (number, _, stands, _) in enumerate(ready)
        ]  # fmt: skip
        about = {"answers": many, "temperature": sampling.temperature, "file": str(self.config.path)}
        return Result(self.name, figures, samples, counter.counts(len(asked)), about)


def _instruction(prompt: str) -> str:
    return f"Complete this Python function. Answer with the whole function in one code block.\n\n```python\n{prompt}```"


def _program(prompt: str, answer: str) -> str:
    """The whole program: a code block as it stands, behind the imports of the prompt; else what goes on from the prompt."""
    blocks = _BLOCK.findall(answer)
    return f"{prompt}\n    pass\n\n{blocks[-1]}" if blocks else prompt + answer
