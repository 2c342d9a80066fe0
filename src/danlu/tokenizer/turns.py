"""A conversation as a lesson: its ids, and which of them the assistant wrote.

What is taught is decided by one question: what would be served? The prompt of a turn is what `encode_chat` makes of the messages
before it, and the turn goes on from there to the first token that ends an answer. Marks of the template (`{% generation %}`)
can only take away from that. Where a template shows an earlier turn otherwise once the conversation goes on (Qwen3 drops old
reasoning), one sequence cannot hold both: `taught` says so, `lessons` makes a sequence of its own for such a turn.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from danlu.core.errors import BadInput
from danlu.tokenizer.chat import Drawn, Template, chosen, draw_together
from danlu.tokenizer.extend import CONTROL
from danlu.tokenizer.sandbox import shared_beginning
from danlu.tokenizer.tokenizer import Tokenizer

_SHOWN = 60
"""Characters of a text that an error quotes."""


@dataclass(frozen=True)
class Turn:
    """A message of the assistant's in the ids of a conversation: `ids[start:end]`, its end-of-turn token included."""

    message: int
    start: int
    end: int


@dataclass(frozen=True)
class Taught:
    """The ids of a conversation, and where a model is taught to write them."""

    ids: list[int]
    mask: list[bool]
    turns: tuple[Turn, ...]
    """The turns that are taught, in order."""


def taught(tokenizer: Tokenizer, template: Template, messages: Sequence[Mapping[str, Any]],
           tools: Sequence[Mapping[str, Any]] | None = None, first: int = 0, *, ends: Collection[int] | None = None,
           variables: Mapping[str, Any] | None = None) -> Taught:  # fmt: skip
    """The whole conversation as one sequence in which every assistant message from `first` on is taught.

    ends: ids that end an answer; left out: the tokenizer's own. A message with `weight` 0 is read and not taught.
    variables: what the template reads besides, as serving will set it (enable_thinking).
    The ids are those of `encode_chat`; only before the last turn, where one token would hold both the end of the prompt and the
    beginning of the answer, they are cut there, because serving sends the prompt alone.
    Raises BadInput that names the seam: a turn that would be served otherwise, one that does not end, nothing to teach.
    """
    lesson = _Lesson(tokenizer, template, messages, tools, first, ends, variables)
    return lesson.together(lesson.asked)


def lessons(tokenizer: Tokenizer, template: Template, messages: Sequence[Mapping[str, Any]],
            tools: Sequence[Mapping[str, Any]] | None = None, first: int = 0, *, ends: Collection[int] | None = None,
            variables: Mapping[str, Any] | None = None, per_turn: bool = False) -> list[Taught]:  # fmt: skip
    """As few sequences as teach every assistant message from `first` on just as it is served, each message once.

    per_turn: one sequence for every message, whether needed or not. Raises BadInput as `taught` does.
    """
    lesson = _Lesson(tokenizer, template, messages, tools, first, ends, variables)
    left, found = list(lesson.asked), []
    while left:
        last = left[-1]
        agree = [] if per_turn else [at for at in left[:-1] if lesson.fault(at, last) is None]
        found.append(lesson.together([*agree, last], last))
        left = [at for at in left[:-1] if at not in agree]
    return found[::-1]


def end_of_turn(tokenizer: Tokenizer, template: Template) -> str | None:
    """The special token that a template writes behind an answer; None where it writes none."""
    talk = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]
    drawn = draw_together(tokenizer, chosen(template, False), [(talk, False)])
    text = drawn.texts[0]
    behind = drawn.shown(text).rfind("Answer") + len("Answer")
    return next((name for name, start, _ in drawn.specials(text) if start >= behind), None)


def with_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    """The same vocabulary with a chat template, and with the token that ends a turn as the one that ends an answer.

    Raises BadInput where the template writes control tokens that the vocabulary lacks, or no token that ends a turn.
    """
    talk = [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]
    text = draw_together(tokenizer, template, [(talk, False)]).texts[0]
    names = {token["content"] for token in tokenizer.parts["added_tokens"]}
    if lacking := sorted(set(CONTROL.findall(text)) - names):
        raise BadInput(
            f"the chat template writes {', '.join(lacking)}, which are no tokens of this vocabulary, so they would fall apart "
            f"into letters. Add them first (--new_tokens), or give a template that fits; the vocabulary has "
            f"{', '.join(list(tokenizer.special_tokens)[:8]) or 'no special tokens'}."
        )
    end = end_of_turn(tokenizer, template)
    if end is None:
        raise BadInput(_endless("the chat template writes no special token behind an answer", tokenizer))
    return Tokenizer(tokenizer.definition, {**tokenizer.config, "eos_token": end}, template, tokenizer.ends)


def ends_of(tokenizer: Tokenizer, *before: int | None) -> list[int]:
    """Ids that end an answer, the tokenizer's own first, for eos_token_id of a model's configs; `before`: further ones."""
    return list(dict.fromkeys(token for token in (tokenizer.eos_id, *before, *sorted(tokenizer.ends)) if token is not None))


class _Lesson:
    """One conversation with the renderings of all its beginnings, made together."""

    def __init__(self, tokenizer: Tokenizer, template: Template, messages: Sequence[Mapping[str, Any]],
                 tools: Sequence[Mapping[str, Any]] | None, first: int, ends: Collection[int] | None,
                 variables: Mapping[str, Any] | None):  # fmt: skip
        self.messages = messages
        self.asked = [at for at, message in enumerate(messages) if at >= first and _counts(message)]
        if not self.asked:
            raise BadInput(f"nothing to teach: no message of an assistant from message {first + 1} on.")
        one = chosen(template, bool(tools))
        _check_read(one, messages, tools)
        wanted = [(messages[:at], True) for at in self.asked] + [(messages[: at + 1], False) for at in self.asked]
        whole = (messages, False)
        wanted += [] if self.asked[-1] == len(messages) - 1 else [whole]
        self.drawn: Drawn = draw_together(tokenizer, one, wanted, tools, variables, bool(_MARKED.search(one)))
        count = len(self.asked)
        self.prompts = dict(zip(self.asked, self.drawn.texts[:count], strict=True))
        self.tokenizer = tokenizer
        self.wholes = dict(zip(self.asked, self.drawn.texts[count : 2 * count], strict=True))
        self.marks = dict(zip(self.asked, self.drawn.marks[count : 2 * count], strict=True))
        self.last = self.asked[-1] if len(wanted) == 2 * count else len(messages) - 1
        self.wholes.setdefault(self.last, self.drawn.texts[-1])
        self.marks.setdefault(self.last, self.drawn.marks[-1])
        known = tokenizer.ends if ends is None else set(ends)
        self.ends = {name for name, number in tokenizer.special_tokens.items() if number in known}
        self._windows: dict[int, tuple[int, int]] = {}
        self._known: dict[str, list[int]] = {}

    def window(self, at: int) -> tuple[int, int]:
        """Where a turn stands in the conversation up to it, in characters. Raises BadInput where it has no such place."""
        if at not in self._windows:
            prompt, whole = self.prompts[at], self.wholes[at]
            if not whole.startswith(prompt):
                raise BadInput(self._seam(at, prompt, whole))
            start = len(prompt)
            special = [(name, end) for name, begin, end in self.drawn.specials(whole) if begin >= start]
            end = next((end for name, end in special if name in self.ends), None)
            if end is None:
                wrote = f"the chat template ends message {at + 1} with {self._quote(whole[-_SHOWN:])}"
                raise BadInput(_endless(wrote, self.tokenizer, self.ends, [name for name, _ in special]))
            rest = whole[end:]
            for name, _ in special:
                rest = rest.replace(name, "")
            if rest.strip():
                raise BadInput(
                    f"message {at + 1} goes on behind the token that ends an answer: {self._quote(rest)}. A model would stop "
                    f"before it. Give a chat template that ends a turn once."
                )
            self._windows[at] = start, end
        return self._windows[at]

    def fault(self, at: int, last: int) -> str | None:
        """Why a turn stands otherwise in the conversation up to `last` than it is served; None: it does not."""
        _, end = self.window(at)
        whole = self.wholes[last]
        if not whole.startswith(self.prompts[at]):
            return self._seam(at, self.prompts[at], whole)
        if not whole.startswith(self.wholes[at][:end]):
            return self._seam(at, self.wholes[at][:end], whole)
        return None if self._cut(at, self._ids(whole)) else self._split(at)

    def together(self, turns: Sequence[int], last: int | None = None) -> Taught:
        """One sequence, up to `last`, in which these turns are taught. Raises BadInput."""
        last = self.last if last is None else last
        for at in turns[:-1]:
            if fault := self.fault(at, last):
                raise BadInput(fault)
        whole, final = self.wholes[last], turns[-1]
        start, end = self.window(final)
        if not whole.startswith(self.wholes[final][:end]):
            raise BadInput(self._seam(final, self.wholes[final][:end], whole))
        ids, parts = self._ids(whole), [whole]
        if not self._cut(final, ids):
            parts = [self.prompts[final], whole[start:]]
            apart = [number for part in parts for number in self._ids(part)]
            if final != last or self.tokenizer.decode(apart) != self.tokenizer.decode(ids):
                raise BadInput(self._split(final))
            ids = apart
        mask, found = [False] * len(ids), []
        for at in turns:
            window = self.window(at)
            holes = self._holes(at, last, *window)
            if holes is None:
                continue
            begin, stop = (self._count(parts, place, ids) for place in window)
            found.append(Turn(at, begin, stop))
            mask[begin:stop] = [True] * (stop - begin)
            for place, after in holes:
                begin, stop = self._count(parts, place, ids, up=True), self._count(parts, after, ids)
                mask[begin:stop] = [False] * (stop - begin)
        if not found:
            raise BadInput("nothing to teach: the chat template's {% generation %} marks leave out all that was asked for.")
        return Taught(ids, mask, tuple(found))

    # ---- characters and tokens

    def _ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self.drawn.encode(text)
        return self._known[text]

    def _cut(self, at: int, ids: list[int]) -> bool:
        """Whether the prompt's tokens begin these ids."""
        prompt = self._ids(self.prompts[at])
        return ids[: len(prompt)] == prompt

    def _count(self, parts: Sequence[str], place: int, ids: list[int], up: bool = False) -> int:
        """Tokens before a place of the text, which was encoded in these parts; `up`: with the one that the place lies in."""
        before: list[int] = []
        for part in parts:
            before += self._ids(part[:place])
            place = max(0, place - len(part))
        whole = shared_beginning(before, ids)
        return whole + (up and whole < len(before))

    def _holes(self, at: int, last: int, start: int, end: int) -> list[tuple[int, int]] | None:
        """Stretches of a turn that the template's marks leave out; None: the whole turn. Raises BadInput."""
        marks = self.marks[last]
        if marks is None:
            return []
        inside = sorted((max(begin, start), min(stop, end)) for begin, stop in marks if begin < end and stop > start)
        if not inside:
            return None
        text = self.wholes[last]
        before, behind = text[start : inside[0][0]], text[inside[-1][1] : end]
        if before:
            raise BadInput(
                f"message {at + 1}: the chat template's {{% generation %}} begins behind {self._quote(before)}, which the prompt "
                f"of serving does not end with: a model would have to write it untaught. Move the mark to where a prompt ends."
            )
        if behind:
            raise BadInput(
                f"message {at + 1}: the chat template's {{% endgeneration %}} stands before {self._quote(behind)}, so that the "
                f"end of a turn is not taught and a model would never stop. Move it behind the token that ends a turn."
            )
        return [(stop, begin) for (_, stop), (begin, _) in pairwise(inside) if begin > stop]

    # ---- words

    def _quote(self, text: str) -> str:
        shown = self.drawn.shown(text)
        return repr(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...")

    def _seam(self, at: int, served: str, whole: str) -> str:
        place = shared_beginning(served, whole)
        before, here, there = served[max(0, place - 20) : place], served[place:], whole[place:]
        return (
            f"message {at + 1} of {len(self.messages)} would be served otherwise than it is taught: behind {self._quote(before)} "
            f"serving has {self._quote(here)}, the whole conversation {self._quote(there)}. The chat template changes what was "
            f"said; teach each turn by itself (per_turn), or give a template that keeps it."
        )

    def _split(self, at: int) -> str:
        prompt = self.prompts[at]
        end, begin = self._quote(prompt[-20:]), self._quote(self.wholes[at][len(prompt) :][:20])
        return (
            f"message {at + 1} of {len(self.messages)}: one token holds the end of the prompt {end} and the beginning of the "
            f"answer {begin}, but serving sends the prompt alone. Take the blanks off the answer, or teach each turn by itself "
            f"(per_turn)."
        )


_MARKED = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def _check_read(template: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None) -> None:
    """Raise BadInput where a template would leave out what is told by a key that it does not read."""
    keys = {"tools": "the functions that may be called"} if tools else {}
    for key, what in (("tool_calls", "calls of functions"), ("reasoning_content", "what the assistant thought")):
        if any(message.get(key) for message in messages):
            keys[key] = what
    if lost := [f"{what} ({key})" for key, what in keys.items() if key not in template]:
        raise BadInput(
            f"the chat template leaves out {' and '.join(lost)}, so that a model would be taught something else than the sample "
            f"says. Give a template that writes it (chatml_thinking writes thoughts), or leave it out of the data."
        )


def _counts(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "assistant" and message.get("weight", 1) != 0


def _endless(wrote: str, tokenizer: Tokenizer, ends: Collection[str] = (), found: Sequence[str] = ()) -> str:
    has = f"; it writes {', '.join(dict.fromkeys(found))}" if found else ""
    stops = ", ".join(sorted(ends)) or "no token at all"
    return (
        f"{wrote}, and answers end at {stops}{has}: a model taught so would never stop. Give a chat template that writes an end "
        f"behind every answer, or make the token that it writes end answers (with_template, or eos_token of the tokenizer)."
    )
