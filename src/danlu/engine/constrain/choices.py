"""Answers that are one of a few texts."""

from typing import Any

from danlu.engine.constrain import FORMS, BadForm, Limits, brief

_SPECIAL = frozenset(r"\.+*?()|[]{}^$#&-~/")


@FORMS.register
def choices(spec: Any, limits: Limits) -> str:
    """spec: the texts."""
    from llguidance import LLMatcher

    if not isinstance(spec, list) or not spec or not all(isinstance(text, str) and text for text in spec):
        raise BadForm(f"choices takes a list of texts, none of them empty, found {brief(spec)}.")
    if len(spec) > limits.values:
        raise BadForm(f"there are {len(spec)} choices; at most {limits.values} are read.")
    size = sum(len(text.encode(errors="replace")) for text in spec)
    if size > limits.spec_bytes:
        raise BadForm(f"the choices have {size} bytes; at most {limits.spec_bytes} are read.")
    escaped = ["".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in text) for text in spec]
    return str(LLMatcher.grammar_from_regex("|".join(escaped)))
