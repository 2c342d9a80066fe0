"""Answers that are a JSON object, whatever is in it."""

from typing import Any

from danlu.engine.constrain import FORMS, BadForm, Limits, brief
from danlu.engine.constrain.json_schema import json_schema


@FORMS.register
def json_object(spec: Any, limits: Limits) -> str:
    """spec: None, there is nothing to say."""
    if spec is not None:
        raise BadForm(f"json_object takes no schema, found {brief(spec)}. Ask for json_schema instead.")
    return json_schema({"type": "object"}, limits)
