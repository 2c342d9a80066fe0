"""Answers that match a regular expression from beginning to end.

The syntax is that of Rust's regex: no look-around and no back-references, so that matching takes no more than one pass.
"""

from typing import Any

from danlu.engine.constrain import FORMS, BadForm, Limits, brief


@FORMS.register
def regex(spec: Any, limits: Limits) -> str:
    """spec: the expression."""
    from llguidance import LLMatcher

    if not isinstance(spec, str) or not spec:
        raise BadForm(f"regex takes an expression, found {brief(spec)}.")
    if len(spec) > limits.pattern_characters:
        raise BadForm(f"the expression has {len(spec)} characters; at most {limits.pattern_characters} are read.")
    return str(LLMatcher.grammar_from_regex(spec))
