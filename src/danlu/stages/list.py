"""Show what can be chosen by name: architectures, objectives, filters, optimisers, ..."""

from danlu.core.errors import UnknownName
from danlu.core.help import shelf_rows
from danlu.core.registry import shelves
from danlu.core.settings import Settings
from danlu.stages import STAGES


class List(Settings):
    """Which shelf, and which thing on it."""

    positional = ("shelf", "name")

    shelf: str | None = None
    """Which shelf; all of them when left out."""
    name: str | None = None
    """Which thing on it; shows its settings."""


@STAGES.register
def list(config: List) -> None:  # the stage is called what people type
    """Print the shelves, or one shelf, or the settings of one thing, on stdout."""
    found = shelves()
    if config.shelf is None:
        for name, shelf in found.items():
            print(f"{name:14}{', '.join(shelf.names())}")
        return
    if config.shelf not in found:
        raise UnknownName("shelf", config.shelf, found)
    shelf = found[config.shelf]
    if config.name is None:
        for name in shelf.names():
            print(f"{name:20}{shelf.summary(name)}")
        return
    if config.name not in shelf:
        raise UnknownName(shelf.kind, config.name, shelf.names())
    print(shelf.summary(config.name))
    for row in shelf_rows(shelf, config.name):
        print(f"  {row.name}  <{row.type}>  ({'required' if row.required else f'default {row.default}'})\n        {row.help}")
