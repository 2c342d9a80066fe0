"""Documents of a task from local files, as the `datasets` library reads them: JSON (lines or a list), CSV, Parquet.

CSV columns are whole numbers or numbers where every cell is one, else text. A value that a document lacks is None. Nothing is
fetched: an address is refused.
"""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.core.errors import BadInput

Document = dict[str, Any]
FORMS = ("json", "csv", "parquet")
Files = str | Sequence[str] | Mapping[str, str | Sequence[str]]


def read(form: str, files: Files, split: str, folders: Sequence[Path]) -> list[Document]:
    """The documents of one split; files without a split's name are all `train`, as in `datasets`.

    folders: where relative paths are looked for, in turn. Raises BadInput naming what is missing or wrong.
    """
    listed = paths(files, split, folders)
    found = [document for path in listed for document in _READERS[form](path, _text_or_bytes(path, form))]
    if not found:
        raise BadInput(f"{', '.join(map(str, listed))}: no document in it.")
    columns = dict.fromkeys(column for document in found for column in document)
    return [{column: document.get(column) for column in columns} for document in found]


def paths(files: Files, split: str, folders: Sequence[Path]) -> list[Path]:
    """The files of one split. Raises BadInput."""
    named = dict(files) if isinstance(files, Mapping) else {"train": files}
    if split not in named:
        raise BadInput(f"data_files has no split {split!r}, only {', '.join(named)}. Files without a split are 'train'.")
    listed = named[split]
    return [path for one in ([listed] if isinstance(listed, str) else listed) for path in find(one, folders)]


def find(name: str, folders: Sequence[Path]) -> list[Path]:
    """Files of a name or pattern."""
    if "://" in name:
        raise BadInput(f"data_files: {name} is an address, and tasks read local files only. Fetch it yourself and give its path.")
    whole = Path(name)
    for folder, pattern in [(whole.parent, whole.name)] if whole.is_absolute() else [(folder, name) for folder in folders]:
        if matching := sorted(folder.glob(pattern)):
            return matching
    places = " or ".join(str(folder.resolve()) for folder in folders)
    raise BadInput(f"data_files: there is no {name} in {places}. Say --task_data FOLDER, the folder that it lies in.")


def _text_or_bytes(path: Path, form: str) -> Any:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if form == "parquet":
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text: {error}. Convert it first.") from None


def _json(path: Path, text: str) -> list[Document]:
    if text.lstrip()[:1] == "[":
        rows = _loaded(path, text, 1)
    else:
        rows = [_loaded(path, line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise BadInput(f"{path}, document {number}: expected an object, found {type(row).__name__}.")
    return rows


def _loaded(path: Path, text: str, number: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path}, line {number}: not JSON: {error}") from None


def _csv(path: Path, text: str) -> list[Document]:
    table = csv.DictReader(io.StringIO(text, newline=""))
    rows = list(table)
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise BadInput(f"{path}, line {number}: it has other columns than the first line.")
    kinds = {column: _kind([row[column] for row in rows]) for column in table.fieldnames or ()}
    return [{column: None if cell == "" and kinds[column] is not str else kinds[column](cell) for column, cell in row.items()}
            for row in rows]  # fmt: skip


def _kind(cells: Sequence[str]) -> type[int] | type[float] | type[str]:
    for kind in (int, float):
        try:
            for cell in cells:
                if cell != "":
                    kind(cell)
        except ValueError:
            continue
        if any(cells):
            return kind
    return str


def _parquet(path: Path, data: bytes) -> list[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Document] = pq.read_table(pa.BufferReader(data)).to_pylist()
    except pa.ArrowInvalid as error:
        raise BadInput(f"{path} is no Parquet file: {error}") from None
    return rows


_READERS: dict[str, Any] = {"json": _json, "csv": _csv, "parquet": _parquet}
