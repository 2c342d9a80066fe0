"""Typed settings from a recipe and flags; a wrong key is an error, not silence.

A field's type, default, limits and attribute docstring are its whole description: the command line, the docs
and the lineage record are derived from it (help.py).
"""

import difflib
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from danlu.core.errors import BadSettings, DanluError
from danlu.core.registry import Registry


class Flag(str):
    """A value as it was typed; the field it lands on decides what it means."""


class _Yaml(yaml.SafeLoader):
    """YAML whose floats include 3e-4: YAML 1.1 would read that as text."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class choice:
    """`Annotated[Named, choice(FILTERS)]`: `name:` picks the thing, the other keys are its Config."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._build,
            core_schema.is_instance_schema(BaseModel),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda picked: picked.model_dump(mode="json")),
        )

    def _build(self, value: Any) -> Any:
        match value:
            case Named():
                return value
            case str():
                value = {"name": str(value)}
            case {"name": str()}:
                pass
            case _:
                raise ValueError(f"say which {self.registry.kind} with `name:`; known: {', '.join(self.registry.names())}")
        try:
            thing = self.registry[str(value["name"])]
        except DanluError as unknown:
            raise ValueError(unknown.args[0]) from None
        return thing.Config(**{key: part for key, part in value.items() if key != "name"})


class Settings(BaseModel):
    """Frozen, strict about names; a field's docstring is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)

    positional: ClassVar[tuple[str, ...]] = ()
    """Fields that the command line fills from bare words, in this order; a list field takes all that remain."""

    @model_validator(mode="before")
    @classmethod
    def _read_flags(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {key: _read(cls.model_fields[key], value) if key in cls.model_fields else value for key, value in data.items()}


class Named(Settings):
    """Settings of a registered thing; `name` says which."""

    name: str


def _read(field: FieldInfo, value: Any) -> Any:
    """Give a typed word the meaning its field expects, and a partial choice the default's name."""
    if isinstance(value, Mapping) and "name" not in value and isinstance(field.default, Mapping | Named) and shelf(field):
        default = field.default if isinstance(field.default, Mapping) else field.default.model_dump()
        return {"name": default["name"], **value}
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Flag) and value[0].startswith("["):
        return yaml.load(value[0], _Yaml)  # noqa: S506  # a SafeLoader with one more float form
    if not isinstance(value, Flag):
        return value
    kinds = _kinds(field.annotation)
    if type(None) in kinds and value.lower() in ("null", "none"):
        return None
    if kinds & {str, Path} or shelf(field):
        return str(value)
    try:
        found = yaml.load(value, _Yaml)  # noqa: S506  # a SafeLoader with one more float form
    except yaml.YAMLError:
        found = str(value)
    return [value] if list in kinds and not isinstance(found, list) else found


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation accepts at its top level."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_kinds(part) for part in typing.get_args(annotation)))
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(annotation)}
    return {origin or annotation}


def shelf(field: FieldInfo) -> Registry[Any] | None:
    """The registry that a field chooses from, also through Optional; None for other fields (and for lists)."""
    for mark in field.metadata:
        if isinstance(mark, choice):
            return mark.registry
    for part in typing.get_args(field.annotation):
        if typing.get_origin(part) is typing.Annotated:
            for mark in typing.get_args(part)[1:]:
                if isinstance(mark, choice) and typing.get_origin(field.annotation) in (typing.Union, types.UnionType):
                    return mark.registry
    return None


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe file as a plain tree. Raises BadSettings for a missing file or text that is no YAML mapping."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Yaml)  # noqa: S506  # see above
    except OSError as error:
        raise BadSettings(f"recipe {path}: {error.strerror}. Give a readable YAML file, or leave --recipe out.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSettings(f"recipe {path} is not YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise BadSettings(f"recipe {path}: expected `key: value` lines at the top, found {type(data).__name__}.")
    return data


def override(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `a.b.c` in a plain tree, making the branches it needs; later calls win."""
    *parents, last = dotted.split(".")
    at = tree
    for key in parents:
        branch = at.get(key)
        if isinstance(branch, str):  # `--optimiser muon --optimiser.learning_rate 1e-3`
            branch = {"name": branch}
        at[key] = branch = dict(branch) if isinstance(branch, Mapping) else {}
        at = branch
    if isinstance(at.get(last), dict) and isinstance(value, str):
        at[last]["name"] = value
    else:
        at[last] = value


S = typing.TypeVar("S", bound=Settings)


def load(kind: type[S], tree: Mapping[str, Any], origin: str = "settings") -> S:
    """Check a plain tree against its type. Raises BadSettings naming every wrong line at once."""
    try:
        return kind(**tree)
    except ValidationError as error:
        lines = [_explain(kind, problem) for problem in error.errors()]
        raise BadSettings("\n  ".join([f"{origin}: {len(lines)} thing(s) to correct", *lines])) from None


def _explain(kind: type[Settings], problem: Any) -> str:
    where, found = ".".join(map(str, problem["loc"])), problem["input"]
    if problem["type"] == "missing":
        return f"{where}: required, not given"
    if problem["type"] != "extra_forbidden":
        said = problem["msg"].removeprefix("Value error, ")
        return f"{where}: {said} (found {found!r})"
    parent = owner(kind, problem["loc"][:-1], problem.get("ctx"))
    near = difflib.get_close_matches(str(problem["loc"][-1]), parent, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(parent)}" if parent else ""
    return f"{where}: no such setting{hint}"


def owner(kind: type[Settings] | None, path: typing.Sequence[str | int], context: Any = None) -> list[str]:
    """Names of the settings that may stand at a dotted path; a choice answers with all its things' settings."""
    for key in path:
        field = kind.model_fields.get(str(key)) if kind else None
        if field is None:
            return []
        registry = shelf(field)
        if registry:
            known: set[str] = set()
            for name in registry.names():
                config = getattr(registry._things.get(name), "Config", None)  # only what is already imported
                known |= set(config.model_fields) if config else set()
            return sorted(known)
        inner = [part for part in _kinds(field.annotation) if isinstance(part, type) and issubclass(part, Settings)]
        kind = inner[0] if inner else None
    return list(kind.model_fields) if kind else []
