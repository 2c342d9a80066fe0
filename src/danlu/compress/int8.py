"""Eight bits a weight: rounded to the nearest of 255 steps, one scale for each output (or each group of its inputs)."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from danlu.compress import QUANTISERS
from danlu.compress.pack import write
from danlu.core.settings import Named
from danlu.models.base import LanguageModel


@QUANTISERS.register
class Int8:
    """A quarter of float32; what it changes is hard to measure."""

    class Config(Named):
        name: Literal["int8"] = "int8"
        group: int | None = Field(None, ge=16, multiple_of=8)
        """Inputs of an output that share a scale; left out, all of them."""

    def __init__(self, config: Config):
        self.config = config

    def write(self, model: LanguageModel, folder: Path) -> dict[str, Any]:
        from danlu.nn.quant import quantise_int8

        return write(model, folder, partial(quantise_int8, group=self.config.group), self.config.group)
