"""What a record asks and what it answers, for the forms that keep the two apart: found by its field, in any style.

A style is a text, Alpaca's instruction with its input, ShareGPT's or OpenAI's messages, and the manner of
hh-rlhf (Bai et al. 2022), one text with "\\n\\nHuman:" and "\\n\\nAssistant:" before each turn.
"""

import re
from collections.abc import Mapping
from typing import Any

from danlu.data.forms.talk import Message, field, prompt_of, turns_of

KNOWN = ("prompt", "messages", "conversations", "instruction", "input", "question")
"""Fields that hold what is asked, in the order in which they are looked for; `input` goes with `instruction`."""
_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def prompt(record: Mapping[str, Any], keys: str) -> list[Message]:
    """What a record asks; empty where no field of it holds that. keys: its fields, empty to look for them."""
    if not keys:
        there = {key for key in KNOWN if record.get(key)}
        keys = next((key for key in KNOWN if key in there and key != "input"), "")
        keys += ",input" if keys == "instruction" and "input" in record else ""
    if not keys:
        return []
    if "," in keys:
        return [{"role": "user", "content": prompt_of(record, keys)}]
    return dialogue(field(record, keys), "user")


def answer(record: Mapping[str, Any], key: str) -> list[Message]:
    """What a field answers, perhaps with what was asked before it."""
    return dialogue(field(record, key), "assistant")


def dialogue(found: Any, role: str) -> list[Message]:
    """Messages of a list, of one text by a role, or of one text with the names of the speakers in it."""
    if isinstance(found, str) and _TURN.match(found):
        _, *parts = _TURN.split(found)
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return [{"role": "user" if who == "Human" else "assistant", "content": text.strip()} for who, text in pairs]
    return turns_of(found, role)


def behind(asked: list[Message], answered: list[Message]) -> list[Message]:
    """An answer without what was asked, where it tells that again."""
    tells = [message for message in asked if message["role"] != "system"]
    for start in (asked, tells):
        if start and answered[: len(start)] == start:
            return answered[len(start) :]
    return answered


def shared(one: list[Message], other: list[Message]) -> int:
    """How many messages two conversations begin with alike; an answer is left to each."""
    most = min(len(one), len(other))
    count = next((at for at in range(most) if one[at] != other[at]), most)
    return min(count, most - 1)
