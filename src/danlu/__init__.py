"""Danlu (丹炉): text you own goes in, a model you can serve, explain and trust comes out.

Every stage is a function here, with the names of the command line: `danlu.prepare(sources=["notes/"], out="data")`.
`danlu.load(path)` opens a model. Importing this package imports nothing heavy.
"""

import typing

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
