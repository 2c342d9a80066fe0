"""Answers that a context-free grammar derives: Lark's notation as llguidance reads it, beginning at the rule `start`."""

from typing import Any

from danlu.engine.constrain import FORMS, BadForm, Limits, brief


@FORMS.register
def grammar(spec: Any, limits: Limits) -> str:
    """spec: the grammar's text. Special tokens cannot be named in it: no request makes the model write them."""
    from llguidance import LLMatcher

    if not isinstance(spec, str) or not spec.strip():
        raise BadForm(f"grammar takes a text with a rule `start`, found {brief(spec)}.")
    if (size := len(spec.encode(errors="replace"))) > limits.spec_bytes:
        raise BadForm(f"the grammar has {size} bytes; at most {limits.spec_bytes} are read.")
    return str(LLMatcher.grammar_from_lark(spec))
