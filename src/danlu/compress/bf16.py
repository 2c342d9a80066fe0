"""Sixteen bits a weight (bfloat16): the range of float32 with eight bits of precision."""

from pathlib import Path
from typing import Any, Literal

from danlu.compress import QUANTISERS
from danlu.compress.pack import halve
from danlu.core.settings import Named
from danlu.models.base import LanguageModel


@QUANTISERS.register
class BFloat16:
    """Half of float32, for every family."""

    class Config(Named):
        name: Literal["bf16"] = "bf16"

    def __init__(self, config: Config):
        self.config = config

    def write(self, model: LanguageModel, folder: Path) -> dict[str, Any]:
        return halve(model, folder)
