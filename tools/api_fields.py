"""Fill the tables of request fields in docs/*/api.md from the models that check requests."""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from danlu.server.fields import Chat, Completion, Drawn
from danlu.server.messages_fields import Messages
from danlu.server.readings import Classify, Embeddings, Moderations, Rerank, Tokenize
from danlu.server.responses_fields import Responses
from tools.regions import LANGUAGES, ROOT, filled, write_or_check

_HEAD = {"en": ("field", "takes", "left out"), "zh": ("字段", "取值", "省略时")}
_KINDS = {"drawn": Drawn, "chat": Chat, "completion": Completion, "responses": Responses, "messages": Messages,
          "embeddings": Embeddings, "classify": Classify,
          "rerank": Rerank, "moderations": Moderations, "tokenize": Tokenize}  # fmt: skip
_REQUIRED = {"en": "required", "zh": "必填"}
_LIMITS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"), ("minLength", "length ≥"),
           ("maxLength", "length ≤"), ("minItems", "items ≥"), ("maxItems", "items ≤"),
           ("maxProperties", "entries ≤"))  # fmt: skip
_CHINESE = {
    "a new one, told in danlu.applied": "新抽一个，写在 danlu.applied 里",
    "what the context still holds, within the server's limit": "上下文还放得下的，不超过服务的上限",
    "max_completion_tokens, which goes first": "以 max_completion_tokens 为准",
    "auto with tools, else none": "有工具时 auto，否则 none", "as the template does": "由模板决定", "n": "同 n", "all": "全部",
    "the server's guard": "服务的守卫", "the first that is served": "第一个模型",
}  # fmt: skip
"""Defaults in words."""


def table(kind: Any, language: str) -> str:
    """The fields of one request that no table before has, as Markdown."""
    schema = kind.model_json_schema()
    known = set(Drawn.model_fields) if kind is not Drawn and issubclass(kind, Drawn) else set()
    rows = [f"| {' | '.join(_HEAD[language])} |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        if name not in known:
            rows.append(f"| `{name}` | {takes(field, schema)} | {default(name, field, schema, language)} |")
    return "\n".join(rows)


def takes(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """Types and limits in a few words."""
    if "x-accepts" in field:
        return ", ".join(f"`{_json(value)}`" for value in field["x-accepts"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(takes(part, schema) for part in field["anyOf"] if part.get("type") != "null")) or "null"
    if "$ref" in field:
        return field["$ref"].rsplit("/", 1)[1]
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    limits = ", ".join(f"{sign} {_short(field[name])}" for name, sign in _LIMITS if name in field)
    inner = field.get("items")
    kind = field.get("type", "list" if inner else "any")
    said = f"list of {takes(inner, schema)}" if kind == "array" and inner and "oneOf" not in inner else kind
    return f"{'list of messages' if inner and 'oneOf' in inner else said}{f' ({limits})' if limits else ''}"


def default(name: str, field: dict[str, Any], schema: dict[str, Any], language: str) -> str:
    """What leaving the field out means."""
    if name in schema.get("required", ()):
        return _REQUIRED[language]
    value = field.get("x-default")
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, str) and value in _CHINESE:
        return _CHINESE[value] if language == "zh" else str(value)
    return f"`{_json(value)}`"


def _json(value: Any) -> str:

    return json.dumps(value)


def _short(number: float) -> str:
    powers = {2**63: "2⁶³", -(2**63): "−2⁶³", 2**31 - 1: "2³¹−1", 2**31: "2³¹"}
    return powers.get(number, f"{number:,.10g}" if isinstance(number, float) else f"{number:,}")


def pages() -> dict[Path, str]:
    """The pages as they should be."""
    found = {}
    for language in LANGUAGES:
        path = ROOT / "docs" / language / "api.md"
        page = path.read_text(encoding="utf-8")
        for name, kind in _KINDS.items():
            page = filled(page, f"fields-{name}", table(kind, language))
        found[path] = page
    return found


if __name__ == "__main__":
    sys.exit(write_or_check(pages()))
