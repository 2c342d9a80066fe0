"""1 for an answer whose Python program passes its tests in the sandbox, else 0, or the share of tests that it passes.

What is known of a prompt (the column `answer`) is lines that assert something, or JSON with one of
`tests` (a list of such lines, as MBPP's `test_list`), `test` and `entry_point` (a function `check`, as HumanEval has it), or
`inputs` and `outputs` (what is typed and what must be printed); `prompt` (a beginning that answers continue) and `setup` may
stand beside them.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from danlu.core.errors import BadInput
from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward
from danlu.train.sandbox import Bounds, Outcome, Program, open_sandbox

_FENCE = re.compile(r"```[ \t]*(?:python|py|python3)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_KEYS = {"tests", "test_list", "test", "entry_point", "inputs", "outputs", "prompt", "setup", "test_setup_code"}


@dataclass(frozen=True)
class Checks:
    """What a program must pass."""

    asserts: tuple[str, ...] = ()
    setup: str = ""
    prompt: str = ""
    entry: str = ""
    typed: tuple[tuple[str, str], ...] = ()
    """What is typed, and what must then be printed."""


@REWARDS.register
class Code(Reward):
    """The last fenced block of an answer is its program; without a fence all of it is."""

    needs_truth = True

    class Config(Reward.Config):
        name: Literal["code"] = "code"
        sandbox: Literal["auto", "bubblewrap", "landlock", "rlimits"] = "auto"
        """What locks programs in: bubblewrap, or the kernel (landlock); auto takes what this machine has and refuses where it
        has neither. rlimits only bounds what a program uses: it can then read and change all that you can."""
        partial: bool = False
        """Whether a part of the tests is worth a part of 1."""
        cpu_s: int = Field(5, ge=1)
        """Processor time that a program may take, seconds."""
        wall_s: float = Field(20.0, gt=0)
        """Time by the clock that it may take, seconds."""
        memory_mb: int = Field(512, ge=64)
        """Address space that it may take, megabytes."""
        at_once: int | None = Field(None, ge=1)
        """Programs that run side by side; left out: as many as there are cores."""

    def __init__(self, config: Any):
        super().__init__(config)
        bounds = Bounds(cpu_s=config.cpu_s, wall_s=config.wall_s, memory_mb=config.memory_mb)
        self.sandbox = open_sandbox(config.sandbox, bounds)

    def check(self, truth: str) -> None:
        super().check(truth)
        read_tests(truth)

    def score(self, asked: Sequence[Asked]) -> list[float]:
        programs = [programs_of(one.answer, read_tests(one.truth)) for one in asked]
        outcomes = iter(self.sandbox.run_all([one for part in programs for one, _ in part], self.config.at_once))
        return [self._value([(next(outcomes), printed, len(one.tests)) for one, printed in part]) for part in programs]

    def _value(self, ends: Sequence[tuple[Outcome, str | None, int]]) -> float:
        """What the ends of an answer's programs are worth; each with what it must print and how many tests it has."""
        right = [end.passed if printed is None else int(end.ok and same_lines(end.stdout, printed)) for end, printed, _ in ends]
        whole = all(end.ok and got == (tests if printed is None else 1)
                    for got, (end, printed, tests) in zip(right, ends, strict=True))  # fmt: skip
        asked = sum(tests if printed is None else 1 for _, printed, tests in ends)
        return float(whole) if whole or not self.config.partial else sum(right) / asked


def read_tests(truth: str) -> Checks:
    """What is known of a prompt, read. Raises BadInput."""
    try:
        found = json.loads(truth)
    except ValueError:
        found = [line for line in truth.splitlines() if line.strip().startswith("assert")]
        if not found:
            raise BadInput(f"the reward code finds no test in {truth[:60]!r}: neither JSON nor lines that begin with "
                           f"assert.") from None  # fmt: skip
    if isinstance(found, list):
        found = {"tests": found}
    if not isinstance(found, dict) or not set(found) & {"tests", "test_list", "test", "inputs"}:
        raise BadInput(f"the reward code reads JSON with `tests`, with `test` and `entry_point`, or with `inputs` and `outputs`; "
                       f"found {truth[:60]!r}.")  # fmt: skip
    asserts = found.get("tests", found.get("test_list", []))
    if found.get("test") and found.get("entry_point"):
        asserts = [*asserts, f"{found['test']}\ncheck({found['entry_point']})"]
    elif found.get("test"):
        asserts = [*asserts, found["test"]]
    inputs, outputs = found.get("inputs", []), found.get("outputs", [])
    texts = [*asserts, *inputs, *outputs]
    if len(inputs) != len(outputs) or not texts or not all(isinstance(one, str) for one in texts):
        raise BadInput(f"the reward code needs tests that are texts, and an output for each input; found {truth[:60]!r}.")
    setup = str(found.get("setup", found.get("test_setup_code", "")) or "")
    return Checks(tuple(asserts), setup, str(found.get("prompt", "")), str(found.get("entry_point", "")),
                 tuple(zip(inputs, outputs, strict=True)))  # fmt: skip


def programs_of(answer: str, tests: Checks) -> list[tuple[Program, str | None]]:
    """The runs that judge an answer, each with what it must print; None where its tests are asserts."""
    text = program_of(answer, tests)
    found: list[tuple[Program, str | None]] = [(Program(text, (), typed), printed) for typed, printed in tests.typed]
    return [*found, (Program(text, tests.asserts), None)] if tests.asserts else found


def program_of(answer: str, tests: Checks) -> str:
    """The program of an answer: its last fenced block or all of it, behind the beginning that it continues.

    >>> program_of("So:\\n```python\\nx = 1\\n```\\nDone.", Checks())
    'x = 1\\n'
    >>> program_of("    return 1", Checks(prompt="def f():\\n", entry="f"))
    'def f():\\n    return 1'
    """
    blocks = _FENCE.findall(answer)
    text = blocks[-1] if blocks else answer
    whole = tests.entry and re.search(rf"^\s*(?:async\s+)?def\s+{re.escape(tests.entry)}\b", text, re.MULTILINE)
    if tests.prompt and whole:  # written anew: what stood before the function may still be needed
        text = f"{tests.prompt.partition(f'def {tests.entry}')[0]}\n{text}"
    elif tests.prompt:
        text = tests.prompt + text
    return f"{tests.setup}\n{text}" if tests.setup else text


def same_lines(said: str, true: str) -> bool:
    """Whether two outputs are the same but for blanks at the ends of lines and at the end.

    >>> same_lines("1 \\n2\\n\\n", "1\\n2"), same_lines("1", "2")
    (True, False)
    """
    return [line.rstrip() for line in said.rstrip().splitlines()] == [line.rstrip() for line in true.rstrip().splitlines()]
