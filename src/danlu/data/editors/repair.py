"""Text that was decoded wrongly before it reached us (`cafÃ©`) is repaired by ftfy (extra: repair)."""

from typing import Literal

from danlu.core.errors import MissingExtra
from danlu.core.settings import Named
from danlu.data.editors import EDITORS
from danlu.data.editors.base import Editor


@EDITORS.register
class Repair(Editor):
    """Mojibake undone; quotation marks, widths and line ends are left as they are."""

    class Config(Named):
        name: Literal["repair"] = "repair"

    def edit(self, text: str) -> str:
        try:
            import ftfy
        except ModuleNotFoundError:
            raise MissingExtra("repair", "mojibake repair") from None
        return str(ftfy.fix_text(text, uncurl_quotes=False, fix_character_width=False, fix_latin_ligatures=False,
                                 unescape_html=False, normalization=None))  # fmt: skip
