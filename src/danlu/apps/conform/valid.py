"""Whether a value fits a JSON schema: the plain definition, for the keywords that checks use."""

import re
from typing import Any

_KINDS = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int, "number": (int, float),
}  # fmt: skip


def problem(value: Any, schema: Any, root: Any = None) -> str | None:
    """What is wrong with a value, None if it fits. Raises KeyError for a reference that leads nowhere.

    >>> problem({"a": 1}, {"type": "object", "properties": {"a": {"type": "integer", "maximum": 0}}})
    '1 is over 0'
    """
    root = schema if root is None else root
    if isinstance(schema, bool):
        return None if schema else f"{value!r} is not allowed"
    if "$ref" in schema:
        place = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            place = place[key]
        return problem(value, place, root)
    if "type" in schema and not any(_is(value, kind) for kind in _many(schema["type"])):
        return f"{value!r} is no {schema['type']}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return f"{value!r} is not in {schema['enum']}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{value!r} is not {schema['const']!r}"
    if "anyOf" in schema and all(problem(value, one, root) for one in schema["anyOf"]):
        return f"{value!r} fits none of {schema['anyOf']}"
    found = [problem(value, one, root) for one in schema.get("allOf", ())]
    match value:
        case dict():
            found += _in_object(value, schema, root)
        case list():
            found += [problem(one, schema["items"], root) for one in value if "items" in schema]
            found += _bounds(len(value), schema, "minItems", "maxItems")
        case str():
            found += _bounds(len(value), schema, "minLength", "maxLength")
            if "pattern" in schema and not re.search(schema["pattern"], value):
                found.append(f"{value!r} does not match {schema['pattern']}")
        case int() | float() if not isinstance(value, bool):
            found += _bounds(value, schema, "minimum", "maximum")
    return next(filter(None, found), None)


def _in_object(value: dict[str, Any], schema: Any, root: Any) -> list[str | None]:
    known = schema.get("properties", {})
    found: list[str | None] = [f"{name!r} is missing" for name in schema.get("required", ()) if name not in value]
    for name, part in value.items():
        found.append(problem(part, known.get(name, schema.get("additionalProperties", True)), root))
    return found


def _bounds(size: float, schema: Any, low: str, high: str) -> list[str | None]:
    return [
        f"{size} is under {schema[low]}" if low in schema and size < schema[low] else None,
        f"{size} is over {schema[high]}" if high in schema and size > schema[high] else None,
    ]


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS[kind]) or (kind == "integer" and isinstance(value, float) and value.is_integer())


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _many(kinds: str | list[str]) -> list[str]:
    return [kinds] if isinstance(kinds, str) else kinds
