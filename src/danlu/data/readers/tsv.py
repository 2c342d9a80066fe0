"""Tab-separated values: a line is a row, and quotation marks are ordinary characters."""

from typing import Literal

from danlu.data.readers import READERS
from danlu.data.readers.csv import Csv


@READERS.register
class Tsv(Csv):
    """Tab-separated values with a header."""

    extensions = (".tsv", ".tab")

    class Config(Csv.Config):
        name: Literal["tsv"] = "tsv"  # type: ignore[assignment]  # the name is what tells them apart
        delimiter: str = "\t"
        """What separates fields."""
        quoting: bool = False
        """Whether fields may stand in double quotation marks; otherwise these are ordinary characters."""
