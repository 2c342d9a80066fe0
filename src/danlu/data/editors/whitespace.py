"""White space at line ends and around the text goes, odd spaces become plain ones, blank lines do not pile up."""

import re
from typing import Literal

from pydantic import Field

from danlu.core.settings import Named
from danlu.data.editors import EDITORS
from danlu.data.editors.base import Editor

_ODD = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]")


@EDITORS.register
class Whitespace(Editor):
    """Indentation and the ideographic space that begins Chinese paragraphs are kept."""

    class Config(Named):
        name: Literal["whitespace"] = "whitespace"
        max_blank_lines: int = Field(1, ge=0)
        """Most blank lines in a row."""

    def edit(self, text: str) -> str:
        text = "\n".join(map(str.rstrip, _ODD.sub(" ", text).split("\n"))).strip("\n")
        most = self.config.max_blank_lines + 1
        return re.sub(rf"\n{{{most + 1},}}", "\n" * most, text) if "\n" * (most + 1) in text else text
