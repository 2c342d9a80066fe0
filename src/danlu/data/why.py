"""What became of a document, and why: `why(dataset, "3f2a...")` or `why(dataset, "notes/a.txt")`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from danlu.data.shards import SPLITS, shard_paths

_MOST = 20


def why(dataset: Path, wanted: str) -> str:
    """Everything the dataset knows about a document (by id) or a file (by path or its end), in words."""
    dataset = Path(dataset)
    found: list[str] = []
    for line in (*_kept(dataset, wanted), *_dropped(dataset, wanted), *_quarantined(dataset, wanted)):
        if len(found) == _MOST:
            found.append(f"... and more; only the first {_MOST} are shown")
            break
        found.append(line)
    if not found:
        return (f"{wanted}: nothing of that id or path was read for {dataset}. Ids are 16 hexadecimal digits; "
                f"paths are those given to `danlu prepare`, or their ends.")  # fmt: skip
    return "\n".join(found)


def _matches(wanted: str, id: str, path: str) -> bool:
    return id in (wanted, f"{wanted}-end") or path == wanted or path.endswith(f"/{wanted.lstrip('/')}")


def _kept(dataset: Path, wanted: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    for split in SPLITS:
        for shard in shard_paths(dataset, split):
            for row in pq.read_table(shard, columns=["id", "path", "line"]).to_pylist():
                if _matches(wanted, row["id"], row["path"]):
                    yield f"{_place(row)}: kept, in {shard.name}"


def _dropped(dataset: Path, wanted: str) -> Iterator[str]:
    import pyarrow.parquet as pq

    table = pq.read_table(dataset / "dropped.parquet")
    paths = dict(zip(table.column("id").to_pylist(), table.column("path").to_pylist(), strict=True))
    for row in table.to_pylist():
        if _matches(wanted, row["id"], row["path"]):
            yield f"{_place(row)}: {_reason(dataset, row, paths)}"


def _reason(dataset: Path, row: dict[str, Any], paths: dict[str, str]) -> str:
    if row["twin"] is None:
        side = "below" if row["value"] < row["threshold"] else "above"
        return f"dropped by {row['rule']}: {row['value']:.4g} is {side} {row['threshold']:.4g}"
    kind = "an exact copy" if row["rule"].startswith("exact") else f"a near copy (similarity about {row['value']:.2f})"
    return f"dropped as {kind} of {row['twin']}{_twin_place(dataset, row['twin'], paths)}"


def _twin_place(dataset: Path, twin: str, paths: dict[str, str]) -> str:
    """Where the surviving copy stands, for people."""
    import pyarrow.parquet as pq

    for split in SPLITS:
        for shard in shard_paths(dataset, split):
            for row in pq.read_table(shard, columns=["id", "path", "line"], filters=[("id", "=", twin)]).to_pylist():
                return f" ({row['path']}, line {row['line']}, in {split})"
    return f" ({paths[twin]}, itself dropped later)" if twin in paths else ""


def _quarantined(dataset: Path, wanted: str) -> Iterator[str]:
    with open(dataset / "quarantine.jsonl", encoding="utf-8") as file:
        for text in file:
            note = json.loads(text)
            if _matches(wanted, "", note["path"]):
                line = f", line {note['line']}" if note["line"] else ""
                yield f"{note['path']}{line}: not read: {note['reason'].removeprefix('passed over: ')}"


def _place(row: dict[str, Any]) -> str:
    return f"{row['path']}, line {row['line']}, id {row['id']}"
