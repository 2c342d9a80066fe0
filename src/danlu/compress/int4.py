"""Four bits a weight: sixteen steps and one scale for each group of inputs, chosen to lose least in squares."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from danlu.compress import QUANTISERS
from danlu.compress.pack import write
from danlu.core.settings import Named
from danlu.models.base import LanguageModel


@QUANTISERS.register
class Int4:
    """An eighth of float32; the receipt says what it costs."""

    class Config(Named):
        name: Literal["int4"] = "int4"
        group: int = Field(32, ge=16, multiple_of=8)
        """Inputs of an output that share a scale. Fewer lose less and take more room: 32 costs half a bit a weight, 128 an
        eighth."""

    def __init__(self, config: Config):
        self.config = config

    def write(self, model: LanguageModel, folder: Path) -> dict[str, Any]:
        from danlu.nn.quant import quantise_int4

        return write(model, folder, partial(quantise_int4, group=self.config.group), self.config.group)
