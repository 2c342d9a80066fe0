"""Help is read from the source text, and it says what pydantic will do."""

import ast
from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest
from pydantic import Field
from pydantic_core import PydanticUndefined

from danlu.core.help import rows, shelf_rows
from danlu.core.registry import shelves
from danlu.core.settings import Named, Settings, choice, shelf
from tests.core.shelf import make_shelf

THINGS = [(shelf, name) for shelf in shelves().values() for name in shelf.names() if hasattr(shelf[name], "Config")]


@pytest.mark.parametrize(("shelf_", "name"), THINGS, ids=[f"{shelf.package}.{name}" for shelf, name in THINGS])
def test_the_static_description_of_a_thing_equals_its_real_settings(shelf_, name):
    static = {row.name: row for row in shelf_rows(shelf_, name)}
    fields = dict(settings_of(shelf_[name].Config))
    assert list(static) == list(fields)
    for key, field in fields.items():
        row = static[key]
        assert row.help == " ".join((field.description or "").split()), f"{key}: help"
        assert row.required == (field.is_required() and "." not in key), f"{key}: required"
        if not field.is_required() and field.default is not PydanticUndefined and shelf(field) is None:
            assert row.default == words(field.default) or same_value(row.default, field.default), f"{key}: default"


def settings_of(kind):
    """Fields by name, those of a group under the group's."""
    for key, field in kind.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))  # a group, or one that may be left out
        inner = [part for part in kinds if isinstance(part, type) and issubclass(part, Settings)]
        if inner and shelf(field) is None:
            yield from ((f"{key}.{name}", part) for name, part in inner[0].model_fields.items())
        elif key != "name":
            yield key, field


def words(value):
    return "none" if value is None else str(value)


def same_value(text, value):
    try:
        return ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        return False


def test_rows_show_every_setting_depth_first_with_its_kind(tmp_path, monkeypatch):
    knobs = make_shelf(tmp_path, monkeypatch)

    class Inner(Settings):
        deep: int = Field(3, gt=0, le=7)
        """How
        deep."""

    class Outer(Settings):
        sources: list[Path]
        """What."""
        inner: Inner = Inner()
        fast: bool = False
        mode: Literal["a", "b"] = "a"
        limit: float | None = None
        weights: dict[str, float] = {}
        knob: Annotated[Named, choice(knobs)] = {"name": "round", "angle": 2.0}
        spare: Annotated[Named, choice(knobs)] | None = None

    found = {row.name: row for row in rows(Outer)}
    assert list(found) == [
        "sources", "inner.deep", "fast", "mode", "limit", "weights", "knob.name", "knob.angle", "spare.name"
    ]  # fmt: skip
    assert found["sources"].many and found["sources"].required and found["sources"].type == "list of path"
    assert found["inner.deep"].type == "whole number, > 0, <= 7" and found["inner.deep"].help == "How deep."
    assert found["fast"].flag and found["mode"].type == "a | b" and found["limit"].default == "none"
    assert found["knob.name"].type == "round | square" and found["knob.name"].default == "round"
    assert found["knob.angle"].default == "2.0" and found["knob.angle"].help == "How far one notch turns, radians."
    assert found["spare.name"].default == "none"


def test_reading_rows_imports_no_thing(tmp_path, monkeypatch):
    import sys

    knobs = make_shelf(tmp_path, monkeypatch)
    assert [row.name for row in shelf_rows(knobs, "square")] == ["side", "sharp"]
    assert f"{knobs.package}.square" not in sys.modules
