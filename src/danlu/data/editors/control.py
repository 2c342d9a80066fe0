"""Control characters, byte-order marks inside text and non-characters are removed; tabs and line ends stay."""

import re
from typing import Literal

from danlu.core.settings import Named
from danlu.data.editors import EDITORS
from danlu.data.editors.base import Editor

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_LINE_ENDS = re.compile("\r\n?|\x85|\u2028|\u2029")


@EDITORS.register
class Control(Editor):
    """No invisible machine characters; every line end is a newline."""

    class Config(Named):
        name: Literal["control"] = "control"

    def edit(self, text: str) -> str:
        return _LINE_ENDS.sub("\n", _CONTROL.sub("", text))
