"""Parquet tables: a row is a document."""

from collections.abc import Iterator
from typing import Literal

from danlu.core.settings import Named
from danlu.data.decode import Unreadable
from danlu.data.raw import Bad, Opened, Raw
from danlu.data.readers import READERS
from danlu.data.readers.base import Reader


@READERS.register
class Parquet(Reader):
    """One row, one document."""

    extensions = (".parquet",)
    records = True

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
                wanted = self.form.fields() if self.form else self.config.text.split(",")
                more = self.form.optional() if self.form else []
                columns = [name for name in (*wanted, *more, "licence", "license") if name in file.schema_arrow.names]
                if lacking := sorted(set(wanted) - set(columns)):
                    raise Unreadable(f"no column {', '.join(map(repr, lacking))}; it has {', '.join(file.schema_arrow.names)}")
                for batch in file.iter_batches(batch_size=256, columns=columns):
                    for record in batch.to_pylist():
                        number += 1
                        yield from self.documents(record, number, limit, 0)
        except (pa.ArrowInvalid, OSError) as error:
            raise Unreadable(f"not a whole Parquet file: {error}") from None
