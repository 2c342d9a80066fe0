"""Making a finished model smaller: a quantiser writes the same model in fewer bits, and nothing else."""

from pathlib import Path
from typing import Any, Protocol

from danlu.core.registry import Registry

QUANTISERS: Registry[Any] = Registry("quantiser", __name__)


class Quantiser(Protocol):
    """What stands on the shelf, built from its Config."""

    def write(self, model: Any, folder: Path) -> dict[str, Any]:
        """Write the weights of a models.base.LanguageModel in float32 into an existing, empty folder.

        Returns what was done: matrices in few bits, matrices left whole, bits of a packed weight. Raises UnsupportedModel
        where nothing would become smaller.
        """
        ...
