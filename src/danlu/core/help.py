"""The settings of a stage as rows for help, docs and completion, read from the types.

Things on shelves are described from their source text, unimported: a row about an optimiser never loads torch.
"""

import ast
import importlib.util
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from danlu.core.registry import Registry
from danlu.core.settings import Named, Settings, choice, shelf

_LIMITS = {
    "gt": ">",
    "ge": ">=",
    "lt": "<",
    "le": "<=",
    "multiple_of": "multiple of",
    "min_length": "at least",
    "max_length": "at most",
}


@dataclass(frozen=True)
class Row:
    """One setting: its dotted name, the type in words, its default in words ('' when required), limits and help."""

    name: str
    type: str
    default: str
    help: str
    required: bool = False
    many: bool = False
    flag: bool = False
    """A yes/no setting, given without a value."""


def rows(kind: type[Settings], prefix: str = "") -> Iterator[Row]:
    """Every setting below a type, depth first; a choice shows its names and the settings of its default."""
    for name, field in kind.model_fields.items():
        dotted = f"{prefix}{name}"
        nested = _nested(field)
        registry = shelf(field)
        if registry:
            yield from _choice_rows(dotted, field, registry)
        elif nested:
            yield from rows(nested, f"{dotted}.")
        elif not (name == "name" and issubclass(kind, Named)):
            yield Row(dotted, _type_words(field), _default_words(field), _one_line(field.description), field.is_required(),
                      many=_is_list(field), flag=field.annotation is bool)  # fmt: skip


def shelf_rows(registry: Registry[Any], name: str, prefix: str = "") -> Iterator[Row]:
    """The settings of one thing on a shelf, read from its file."""
    tree = registry.tree(name)
    if tree is not None:
        for node, text, home in _config_body(tree):
            group = _group(node, home)
            if group:
                yield from (_within(row) for row in _static_rows(_fields(*group), f"{prefix}{ast.unparse(node.target)}."))
            else:
                yield from _static_rows([(node, text, home)], prefix)


def rows_of_chosen(kind: type[Settings], key: str, name: str) -> Iterator[Row]:
    """The settings of a thing that the words `--key name` (or `--key.name name`) choose; none for other words."""
    holder: type[Settings] | None = kind
    *groups, last = key.removesuffix(".name").split(".")
    for group in groups:
        holder = _nested(holder.model_fields[group]) if holder and group in holder.model_fields else None
    registry = shelf(holder.model_fields[last]) if holder and last in holder.model_fields else None
    if registry and name in registry.names():
        yield from shelf_rows(registry, name, f"{'.'.join([*groups, last])}.")


def _static_rows(fields: Iterable["_Found"], prefix: str) -> Iterator[Row]:
    for node, text, _ in fields:
        row = _static_row((node, text), prefix)
        if row and not row.name.endswith(("name", ".name")):
            yield row


def _within(row: Row) -> Row:
    """A setting of a group that may be left out whole."""
    return replace(row, required=False, default="none") if row.required else row


def _choice_rows(dotted: str, field: FieldInfo, registry: Registry[Any]) -> Iterator[Row]:
    default = field.default if isinstance(field.default, dict) else {}
    picked = default.get("name", "")
    text = _one_line(field.description)
    yield Row(f"{dotted}.name", " | ".join(registry.names()), picked or "none", text, field.is_required())
    if picked:
        for row in shelf_rows(registry, picked, f"{dotted}."):
            key = row.name.removeprefix(f"{dotted}.")
            yield replace(row, default=str(default[key]), required=False) if key in default else row


def _nested(field: FieldInfo) -> type[Settings] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) and not shelf(field) else None


def _is_list(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) in (list, tuple)


def _type_words(field: FieldInfo) -> str:
    limits = []
    for mark in field.metadata:
        limits += [f"{sign} {getattr(mark, key)}" for key, sign in _LIMITS.items() if getattr(mark, key, None) is not None]
    return ", ".join([type_words(field.annotation), *limits])


def type_words(annotation: Any) -> str:
    """A type as people read it: `int`, `text`, `a | b`, `list of path`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if origin is typing.Annotated:
        registry = next((mark.registry for mark in parts[1:] if isinstance(mark, choice)), None)
        return " | ".join(registry.names()) if registry else type_words(parts[0])
    if origin in (list, tuple):
        return f"list of {type_words(parts[0])}"
    if origin is dict:
        return f"{type_words(parts[0])}: {type_words(parts[1])}, ..."
    if parts:
        return " | ".join(type_words(part) for part in parts)
    names = {str: "text", Path: "path", type(None): "none", bool: "yes/no", float: "number", int: "whole number"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _default_words(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "" if field.default_factory is None else str(field.get_default(call_default_factory=True))
    return "none" if field.default is None else str(field.default)


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


_Found = tuple[ast.AnnAssign, str, ast.Module]
"""A field, its docstring, and the file it stands in."""


def _group(node: ast.AnnAssign, home: ast.Module) -> tuple[ast.ClassDef, ast.Module] | None:
    """The settings class that a field holds, `Inner` or `Inner | None`, where it is one."""
    name = ast.unparse(node.annotation).removesuffix(" | None")
    found = _find_class(home, [name]) if name.isidentifier() else None
    return found if found and any(ast.unparse(base) == "Settings" for base in found[0].bases) else None


def _config_body(tree: ast.Module) -> list[_Found]:
    """The fields of the `Config` in a file, those of the Config it extends first."""
    holders: list[ast.Module | ast.ClassDef] = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for holder in holders:
        for node in holder.body:
            if isinstance(node, ast.ClassDef) and node.name == "Config":
                return _fields(node, tree)
    return []


def _fields(config: ast.ClassDef, tree: ast.Module) -> list[_Found]:
    found: dict[str, _Found] = {}
    for base in config.bases:
        inherited = _find_class(tree, ast.unparse(base).split("."))
        if inherited:
            found |= {one[0].target.id: one for one in _fields(*inherited) if isinstance(one[0].target, ast.Name)}
    for node, after in zip(config.body, [*config.body[1:], None], strict=True):
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and not ast.unparse(node.annotation).startswith("ClassVar")
        ):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                text = after.value.value
            found[node.target.id] = (node, text, tree)
    return list(found.values())


def _find_class(tree: ast.Module, names: list[str]) -> tuple[ast.ClassDef, ast.Module] | None:
    """A class by dotted name, in this file or the danlu module it is imported from."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == names[0]:
            for name in names[1:]:
                inner = [part for part in node.body if isinstance(part, ast.ClassDef) and part.name == name]
                if not inner:
                    return None
                node = inner[0]
            return node, tree
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("danlu."):
            if not any((alias.asname or alias.name) == names[0] for alias in node.names):
                continue
            spec = importlib.util.find_spec(node.module)  # imports the parent packages only, and those are light by contract
            if spec and spec.origin and not node.module.startswith("danlu.core"):
                return _find_class(ast.parse(Path(spec.origin).read_text(encoding="utf-8")), names)
    return None


def _static_row(found: tuple[ast.AnnAssign, str], prefix: str) -> Row | None:
    node, text = found
    if not isinstance(node.target, ast.Name):
        return None
    default, limits = "", []
    value = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Field":
        limits = [f"{_LIMITS[key.arg]} {ast.unparse(key.value)}" for key in value.keywords if key.arg in _LIMITS]
        value = value.args[0] if value.args else next((key.value for key in value.keywords if key.arg == "default"), None)
    if value is not None:
        default = str(value.value) if isinstance(value, ast.Constant) and value.value is not None else ast.unparse(value).lower()
        default = default.replace("math.inf", "inf")
    required = node.value is None or default == "..."
    kind = ast.unparse(node.annotation)
    return Row(f"{prefix}{node.target.id}", ", ".join([_static_type(node.annotation), *limits]), "" if required else default,
               _one_line(text), required, many=kind.startswith(("list[", "tuple[")), flag=kind == "bool")  # fmt: skip


def _static_type(annotation: ast.expr) -> str:
    text = ast.unparse(annotation)
    if text.startswith("Literal["):
        return text[8:-1].replace("'", "").replace(", ", " | ")
    words = {"str": "text", "Path": "path", "bool": "yes/no", "float": "number", "int": "whole number", "None": "none",
             "tuple[float, ...]": "list of number", "list[str]": "list of text", "list[int]": "list of whole number",
             "list[float]": "list of number"}  # fmt: skip
    return " | ".join(words.get(part, part) for part in text.split(" | "))
