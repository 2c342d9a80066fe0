"""All checks against one server: run, counted, as a table and as a page."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from danlu.apps.conform import (  # noqa: F401  # each file enrols its checks
    chat,
    completions,
    embeddings,
    formats,
    responses,
    streaming,
    transport,
)  # fmt: skip  # isort: skip
from danlu.apps.conform.check import CHECKS, Check, Verdict, judge
from danlu.apps.conform.target import Target
from danlu.core.errors import UnknownName
from danlu.core.page import Page

SCHEMA = 1
"""Version of the report's form."""
COLUMNS = ("id", "claim", "verdict", "what was seen")


def chosen(only: Sequence[str]) -> list[Check]:
    """The checks of some ids, in order of id; `C10` means C10a, C10b and so on. No ids: all. Raises UnknownName."""
    known = sorted(CHECKS, key=lambda one: (one.id[:3], one.id))
    for wish in only:
        if not any(_is(one, wish) for one in known):
            raise UnknownName("check", wish, [one.id for one in known])
    return [one for one in known if not only or any(_is(one, wish) for wish in only)]


def run(target: Target, checks: Sequence[Check], told: Callable[[Verdict], None] = lambda verdict: None) -> list[Verdict]:
    """The verdicts of some checks, one after the other; each is told when it is there."""
    verdicts = []
    for one in checks:
        verdicts.append(judge(one, target))
        told(verdicts[-1])
    return verdicts


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many of each outcome."""
    found = Counter(verdict.outcome for verdict in verdicts)
    return {outcome: found[outcome] for outcome in ("pass", "fail", "not offered", "needs more")}


def rows(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """The table."""
    return [[one.id, one.claim, one.outcome, one.detail] for one in verdicts]


def figures(target: Target, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What report.json holds."""
    return {
        "schema": SCHEMA, "url": target.url, "model": target.model, "counts": counts(verdicts),
        "checks": [vars(verdict) for verdict in verdicts],
    }  # fmt: skip


def page(target: Target, verdicts: Sequence[Verdict]) -> Page:
    """What report.html shows: what failed first, then all, section by section."""
    made = Page("Conformance", f"{target.url}, model {target.model}")
    made.facts(counts(verdicts))
    failed = [one for one in verdicts if one.outcome == "fail"]
    if failed:
        made.heading("Failed")
        made.table(COLUMNS, rows(failed))
    for section in dict.fromkeys(one.section for one in CHECKS):
        if of_section := [one for one in verdicts if one.section == section]:
            made.heading(section.capitalize())
            made.table(COLUMNS, rows(of_section))
    return made


def _is(one: Check, wish: str) -> bool:
    return one.id.lower() == wish.lower() or one.id[:-1].lower() == wish.lower() or one.section == wish.lower()
