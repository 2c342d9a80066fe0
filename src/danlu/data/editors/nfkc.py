"""Unicode NFKC: full-width letters become plain ones, ligatures fall apart, superscripts lose their place. Not reversible."""

import unicodedata
from typing import Literal

from danlu.core.settings import Named
from danlu.data.editors import EDITORS
from danlu.data.editors.base import Editor


@EDITORS.register
class Nfkc(Editor):
    """Compatibility composition."""

    class Config(Named):
        name: Literal["nfkc"] = "nfkc"

    def edit(self, text: str) -> str:
        return unicodedata.normalize("NFKC", text)
