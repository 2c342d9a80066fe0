"""Danlu (丹炉): text you own goes in, a model you can serve, explain and trust comes out.

Every stage is a function here, with the names of the command line and its order of inputs:
`danlu.prepare("notes/", out="data")` is `danlu.prepare(sources=["notes/"], out="data")`.
`danlu.load(path)` opens a model. Importing this package imports nothing heavy.
"""

import sys
import types
import typing
from pathlib import Path

if typing.TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def __getattr__(name: str) -> "Callable":
    if name == "load":
        from danlu.engine.model import load

        return load
    if name == "__version__":
        from danlu.core.machine import version

        return version("danlu")
    if not name.startswith("_"):
        from danlu.stages import STAGES

        if name in STAGES:
            return _call(name)
    raise AttributeError(f"module 'danlu' has no attribute {name!r}")


def __dir__() -> list[str]:
    from danlu.stages import STAGES

    return sorted(["load", "__version__", *STAGES.names()])


def _call(name: str) -> "Callable":
    """A stage as a plain function: `stage(settings)`, or `stage(input, key=value, ...)`."""
    from danlu.core.settings import Settings, load
    from danlu.stages import STAGES, settings_of

    stage = STAGES[name]

    def call(*inputs: object, **keys: object) -> object:
        if len(inputs) == 1 and isinstance(inputs[0], Settings) and not keys:
            return stage(inputs[0])
        kind = settings_of(name)
        return stage(load(kind, {**_place(name, kind, inputs), **keys}, f"danlu.{name}"))

    call.__name__, call.__doc__ = name, stage.__doc__ or STAGES.summary(name)
    return call


def _place(name: str, kind: "Any", inputs: tuple[object, ...]) -> dict[str, object]:
    """Inputs without a name to the settings that bare words fill on the command line; a list setting takes a list, or all inputs
    but those that the settings behind it need."""
    from danlu.core.errors import BadSettings

    placed: dict[str, object] = {}
    rest = [*inputs]
    for place, key in enumerate(kind.positional, 1):
        if rest and typing.get_origin(kind.model_fields[key].annotation) is list:
            taken = max(len(rest) - (len(kind.positional) - place), 1)
            placed[key], rest = (rest[0], rest[1:]) if isinstance(rest[0], list | tuple) else (rest[:taken], rest[taken:])
        elif rest:
            placed[key] = rest.pop(0)
    if rest:
        wanted = ", ".join(kind.positional) or "none"
        raise BadSettings(f"danlu.{name}: {len(rest)} input(s) too many (inputs here: {wanted}). Name the others: key=value.")
    return placed


class _House(types.ModuleType):
    """This package. Importing a folder that shares a stage's name (tokenizer, evaluate) must not hide the stage."""

    def __setattr__(self, name: str, value: object) -> None:
        if type(value) is types.ModuleType and (Path(__file__).parent / "stages" / f"{name}.py").is_file():
            value.__class__ = _Room
        super().__setattr__(name, value)


class _Room(types.ModuleType):
    """A folder of the house that is also a stage: calling it runs the stage."""

    def __call__(self, *settings: object, **keys: object) -> object:
        return _call(self.__name__.rpartition(".")[2])(*settings, **keys)


sys.modules[__name__].__class__ = _House
