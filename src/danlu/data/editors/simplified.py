"""Traditional Chinese to simplified, by OpenCC's phrase tables (extra: zh)."""

import functools
from typing import Any, Literal

from danlu.core.errors import MissingExtra
from danlu.core.settings import Named
from danlu.data.editors import EDITORS
from danlu.data.editors.base import Editor


@EDITORS.register
class Simplified(Editor):
    """One script for a corpus that mixes two."""

    class Config(Named):
        name: Literal["simplified"] = "simplified"
        table: Literal["t2s", "tw2s", "tw2sp", "hk2s"] = "t2s"
        """OpenCC's conversion: general, Taiwan, Taiwan with its vocabulary, Hong Kong."""

    def edit(self, text: str) -> str:
        return str(_converter(self.config.table).convert(text))


@functools.cache
def _converter(table: str) -> Any:
    try:
        from opencc import OpenCC
    except ModuleNotFoundError:
        raise MissingExtra("zh", "traditional to simplified Chinese") from None
    return OpenCC(table)
