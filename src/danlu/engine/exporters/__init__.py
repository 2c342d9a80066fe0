"""Forms in which a model leaves the house: an exporter writes a folder that another program reads."""

from pathlib import Path
from typing import Any, Protocol

from danlu.core.registry import Registry

EXPORTERS: Registry[Any] = Registry("exporter", __name__)


class Exporter(Protocol):
    """What stands on the shelf, built from its Config."""

    def write(self, model: Any, folder: Path) -> None:
        """Write an opened engine.model.Model into an existing, empty folder."""
        ...

    def read(self, folder: Path) -> Any:
        """Open what `write` left, as an engine.model.Model, for the certificate."""
        ...
