"""Documents that are too short or too long, in characters."""

from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.data.filters import FILTERS
from danlu.data.filters.base import Filter, Rule
from danlu.data.letters import Array
from danlu.data.texts import Texts


@FILTERS.register
class Length(Filter):
    """Bounds on the characters of a document."""

    profiles = ("prose", "code")

    class Config(Named):
        name: Literal["length"] = "length"
        least: int = Field(1, ge=1)
        """Fewest characters."""
        most: int | None = None
        """Most characters; no limit when left out."""

    def measure(self, texts: Texts) -> dict[str, Array]:
        return {"characters": texts.lengths.astype(np.float64)}

    def measure_plain(self, text: str) -> dict[str, float]:
        return {"characters": float(len(text))}

    def rules(self) -> list[Rule]:
        return [Rule("characters", "characters", self.config.least, self.config.most)]
