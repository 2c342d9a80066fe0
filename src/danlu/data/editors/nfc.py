"""Unicode NFC: letters and their accents composed; full-width forms and ligatures stay as written."""

import unicodedata
from typing import Literal

from danlu.core.settings import Named
from danlu.data.editors import EDITORS
from danlu.data.editors.base import Editor


@EDITORS.register
class Nfc(Editor):
    """Canonical composition, which changes no character's meaning."""

    class Config(Named):
        name: Literal["nfc"] = "nfc"

    def edit(self, text: str) -> str:
        return unicodedata.normalize("NFC", text)
