"""A check: an id, a claim in one line, and a function that looks whether a server keeps it.

A check returns when the claim holds and raises one of three verdicts when it does not, or cannot be judged. The tens of an id
tell the section (docs/*/tutorials/conform-bench.md), a letter tells the parts of one item apart.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from danlu.apps.conform.target import Target

Outcome = Literal["pass", "fail", "not offered", "needs more"]


class Failed(Exception):
    """The claim does not hold: what was expected, and what came."""

    def __init__(self, expected: str, found: Any):
        self.expected, self.found = expected, shorten(found)
        super().__init__(f"expected {expected}; found {self.found}")


class NotOffered(Exception):
    """The server says that it does not do this: 404, 405, 501, or a refusal that calls it unsupported."""


class NeedsMore(Exception):
    """The claim cannot be judged with what is there: a key, a chat template, the openai package."""


@dataclass(frozen=True)
class Check:
    """One claim about a server."""

    id: str
    section: str
    claim: str
    look: Callable[[Target], None]


@dataclass(frozen=True)
class Verdict:
    """What came of a check."""

    id: str
    section: str
    claim: str
    outcome: Outcome
    detail: str = ""
    seconds: float = 0.0


CHECKS: list[Check] = []
"""Every check, in the order of the files that suite.py imports."""


def check(id: str) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
    """Decorator: enrols a function of a server as the check of that id. Its docstring is the claim."""

    def enrol(look: Callable[[Target], None]) -> Callable[[Target], None]:
        assert all(id != known.id for known in CHECKS), f"two checks have the id {id}"
        CHECKS.append(Check(id, look.__module__.rpartition(".")[2], (look.__doc__ or "").strip().rstrip("."), look))
        return look

    return enrol


def judge(one: Check, target: Target) -> Verdict:
    """Run a check. A server that hangs, hangs up or answers in a shape that the check cannot read has failed it."""
    started = time.monotonic()
    outcome, detail = verdict(one, target)
    return Verdict(one.id, one.section, one.claim, outcome, detail, round(time.monotonic() - started, 3))


def verdict(one: Check, target: Target) -> tuple[Outcome, str]:
    """The outcome of a check, and why."""
    try:
        one.look(target)
    except Failed as failed:
        return "fail", str(failed)
    except NotOffered as answer:
        return "not offered", str(answer)
    except NeedsMore as wish:
        return "needs more", str(wish)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        return "fail", f"the answer has another shape: {type(error).__name__}: {shorten(error)}"
    except OSError as error:
        return "fail", f"the connection failed: {type(error).__name__}: {error}"
    except Exception as error:  # a client library that cannot read the answer raises whatever it likes
        return "fail", f"{type(error).__name__}: {shorten(error)}"
    return "pass", ""


def expect(holds: bool, expected: str, found: Any) -> None:
    """Raise Failed unless the claim holds."""
    if not holds:
        raise Failed(expected, found)


def every(problems: Iterable[str]) -> None:
    """Raise Failed with all problems of a check that tries several things."""
    if found := [*problems]:
        raise Failed("each of these to be right", "; ".join(found))


def shorten(value: Any, most: int = 240) -> str:
    """A value in a table."""
    text = repr(value) if isinstance(value, list | dict | tuple | set | bytes) else str(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
