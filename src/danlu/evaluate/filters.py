"""What is taken out of an answer before it is judged: lm-eval's filters that need nothing but the answer."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from danlu.core.errors import BadSettings, nearest


@dataclass(frozen=True)
class Pipeline:
    """Filters one after another, under a name."""

    name: str
    steps: tuple[Callable[[str], str], ...]

    def __call__(self, answer: str) -> str:
        for step in self.steps:
            answer = step(answer)
        return answer


def pipelines(listed: Sequence[Mapping[str, Any]] | None, where: str) -> list[Pipeline]:
    """The pipelines of a filter_list; one that changes nothing where there is none. Raises BadSettings naming what is unknown."""
    if not listed:
        return [Pipeline("none", ())]
    found = []
    for one in listed:
        if not isinstance(one, Mapping) or set(one) != {"name", "filter"}:
            raise BadSettings(f"{where}: each of filter_list has a name and a filter, and nothing else.")
        names = [str(step.get("function")) for step in one["filter"]]
        if not names or names[-1] != "take_first":
            raise BadSettings(f"{where}: filter {one['name']!r} must end with take_first: a question has one answer here.")
        steps = [_step(dict(step), where) for step in one["filter"]]
        found.append(Pipeline(str(one["name"]), tuple(steps)))
    return found


def _step(told: dict[str, Any], where: str) -> Callable[[str], str]:
    name = str(told.pop("function", None))
    if name not in _MADE:
        raise BadSettings(f"{where}: no filter called {name!r}. {nearest(name, _MADE)}")
    make, known = _MADE[name]
    if strange := sorted(told.keys() - known):
        raise BadSettings(f"{where}: filter {name} has no setting {strange[0]!r}; known: {', '.join(sorted(known)) or 'none'}.")
    return make(**told)


def regex(
    regex_pattern: str = r"#### (\-?[0-9\.\,]+)", group_select: int = 0, fallback: str = "[invalid]"
) -> Callable[[str], str]:
    """The match of that number (-1: the last), of several groups the first that matched; `fallback` where there is none.

    >>> regex()("so it is\\n#### 1,200"), regex(r"(\\d+)", -1)("2 then 35"), regex()("no idea")
    ('1,200', '35', '[invalid]')
    """
    try:
        pattern = re.compile(regex_pattern)
    except re.error as error:
        raise BadSettings(f"filter regex: {regex_pattern!r} is no pattern: {error}") from None

    def take(answer: str) -> str:
        matches = pattern.findall(answer)
        if not -len(matches) <= group_select < len(matches):
            return fallback
        match = matches[group_select]
        if isinstance(match, tuple):
            match = next((part for part in match if part), fallback)
        return str(match).strip()

    return take


_MADE: dict[str, tuple[Callable[..., Callable[[str], str]], frozenset[str]]] = {
    "regex": (regex, frozenset({"regex_pattern", "group_select", "fallback"})),
    "take_first": (lambda: str, frozenset()),
    "remove_whitespace": (lambda: str.strip, frozenset()),
    "lowercase": (lambda: str.lower, frozenset()),
    "uppercase": (lambda: str.upper, frozenset()),
}
