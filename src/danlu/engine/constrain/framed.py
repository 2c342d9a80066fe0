"""Answers in which forms stand within a frame of fixed texts: calls of tools, or a form after what was thought.

For the server's own frames, never for one that came in a request: `<[ID]>` in it makes the model write a special token, if the
token is among `tokens`.
"""

import json
from collections.abc import Mapping
from typing import Any

from danlu.engine.constrain import FORMS, BadForm, Limits, brief


@FORMS.register
def framed(spec: Any, limits: Limits) -> str:
    """spec: {"frame": a Lark grammar with @NAME where a part stands, "parts": {NAME: [kind, spec], ...}, "tokens": [ID, ...]}."""
    from llguidance import LLMatcher

    match spec:
        case {"frame": str(frame), "parts": Mapping() as parts}:
            pass
        case _:
            raise BadForm(f"framed takes a frame and its parts, found {brief(spec)}.")
    size = sum(len(json.dumps(one, ensure_ascii=False).encode(errors="replace")) for one in parts.values())
    if size > limits.spec_bytes:
        raise BadForm(f"the schemas have {size} bytes together; at most {limits.spec_bytes} are read.")
    grammars = [{"name": "frame", "lark_grammar": str(LLMatcher.grammar_from_lark(frame))}]
    for name, (kind, inner) in parts.items():
        try:
            made = json.loads(FORMS[kind](inner, limits))["grammars"]
        except BadForm as error:
            raise BadForm(f"{name}: {error.args[0]}") from None
        grammars.append({**made[0], "name": name})
    return json.dumps({"grammars": grammars})
