"""Markdown: kept as text, a file is a document."""

from collections.abc import Iterator
from typing import Literal

from danlu.core.settings import Named
from danlu.data.raw import Bad, Opened, Raw, cut
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader


@READERS.register
class Md(Reader):
    """Markdown with its marks, which models are meant to learn."""

    extensions = (".md", ".markdown", ".mdx", ".mkd")

    class Config(Named):
        name: Literal["md"] = "md"

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        yield from cut(opened.chunks(), limit, opened.line)
