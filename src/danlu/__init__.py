"""Danlu (丹炉): text you own goes in, a model you can serve, explain and trust comes out.

Every stage is a function here, with the names of the command line: `danlu.prepare(sources=["notes/"], out="data")`.
`danlu.load(path)` opens a model. Importing this package imports nothing heavy.
"""

import sys
import types
import typing
from pathlib import Path

if typing.TYPE_CHECKING:
    from collections.abc import Callable


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
    """A stage as a plain function: `stage(settings)` or `stage(key=value, ...)`."""
    from danlu.core.settings import Settings, load
    from danlu.stages import STAGES, settings_of

    stage = STAGES[name]

    def call(settings: Settings | None = None, /, **keys: object) -> object:
        return stage(settings if settings is not None else load(settings_of(name), keys, f"danlu.{name}"))

    call.__name__, call.__doc__ = name, stage.__doc__ or STAGES.summary(name)
    return call


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
