"""Parquet tables: a row is a document."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from danlu.core.settings import Named
from danlu.data.decode import Unreadable
from danlu.data.raw import Bad, Opened, Raw, cut
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader, licence_of, pick


@READERS.register
class Parquet(Reader):
    """One row, one document."""

    extensions = (".parquet",)

    class Config(Named):
        name: Literal["parquet"] = "parquet"
        text: str = "text"
        """Column that holds the text; several, separated by commas, are joined by a blank line."""

    def read(self, opened: Opened, limit: int) -> Iterator[Raw | Bad]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        number = 0
        try:
            with pq.ParquetFile(opened.piece.place) as file:
                wanted = [*self.config.text.split(","), "licence", "license"]
                columns = [name for name in wanted if name in file.schema_arrow.names]
                if not set(self.config.text.split(",")) <= set(columns):
                    raise Unreadable(f"no column {self.config.text!r}; it has {', '.join(file.schema_arrow.names)}")
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    for record in batch.to_pylist():
                        number += 1
                        yield from self._row(record, number, limit)
        except (pa.ArrowInvalid, OSError) as error:
            raise Unreadable(f"not a whole Parquet file: {error}") from None

    def _row(self, record: dict[str, object], number: int, limit: int) -> Iterator[Raw | Bad]:
        try:
            text = pick(record, self.config.text)
        except ValueError as error:
            yield Bad(number, str(error), 0)
            return
        for part in cut([text], limit, number):
            yield replace(part, licence=licence_of(record))
