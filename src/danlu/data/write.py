"""From measured shards and verdicts to the files of a dataset: train and validation shards, dropped.parquet, quarantine.jsonl.

Streams: one row group in memory at a time.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from danlu.data.decide import EMPTY, FIRST, TAIL, TRAIN, VALIDATION, Decision
from danlu.data.dedup import DEDUPS
from danlu.data.forms import FORMS
from danlu.data.ledger import Ledger
from danlu.data.letters import Array
from danlu.data.shards import ShardWriter, schema
from danlu.data.sources import Passed
from danlu.data.statistics import Statistics
from danlu.data.steps import Steps


def dropped_schema() -> Any:
    """Columns of dropped.parquet: one row a document that did not stay, with the reason."""
    import pyarrow as pa

    return pa.schema([
        ("id", pa.string()), ("source", pa.string()), ("path", pa.string()), ("line", pa.int64()), ("rule", pa.string()),
        ("value", pa.float64()), ("threshold", pa.float64()), ("twin", pa.string()), ("beginning", pa.string()),
    ])  # fmt: skip


class Writer:
    """Writes one dataset folder."""

    def __init__(self, folder: Path, steps: Steps, decision: Decision, holdout: float):
        import pyarrow.parquet as pq

        self.folder, self.steps, self.decision, self.holdout = folder, steps, decision, holdout
        self.ledger, self.statistics = Ledger(), Statistics()
        self._columns: Mapping[str, str] = FORMS[steps.form.name].columns if steps.form else {}
        self._splits = {name: ShardWriter(folder, name, self._columns) for name in ("train", "validation")}
        self._dropped = pq.ParquetWriter(folder / "dropped.parquet", dropped_schema(), compression="zstd")
        self._similar = {f"{dedup.kind} copies": dedup for config in steps.dedups for dedup in [DEDUPS.build(config)]}
        self._rules = dict(enumerate(decision.rules))

    def write(self, shards: Sequence[Path]) -> Iterator[int]:
        """Write every shard's documents; yields the number of documents of each row group as it is done."""
        import pyarrow.parquet as pq

        place = 0
        for path in shards:
            with pq.ParquetFile(path) as file:
                self.ledger.merge(json.loads(file.metadata.metadata[b"ledger"]))
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    if table.num_rows:
                        self._write_group(table, place)
                        place += table.num_rows
                        yield table.num_rows
        for writer in self._splits.values():
            writer.close()
        self._dropped.close()
        self.ledger.check()

    def _write_group(self, table: Any, place: int) -> None:
        verdicts = self.decision.verdicts[place : place + table.num_rows]
        self._book(table, verdicts)
        self.statistics.see(table, np.isin(verdicts, (TRAIN, VALIDATION, TAIL)))
        documents = _as_documents(table, self._columns)
        heads, tails = self._cut_tails(table, documents, np.flatnonzero(verdicts == TAIL))
        if heads is not None:
            documents = heads
        self._splits["train"].write(documents.filter(np.isin(verdicts, (TRAIN, TAIL))))
        self._splits["validation"].write(documents.filter(verdicts == VALIDATION))
        if tails is not None:
            self._splits["validation"].write(tails)
        self._drop(table, verdicts, place)

    def _book(self, table: Any, verdicts: Array) -> None:
        """The ledger: what each document came to."""
        source = np.array(table.column("source").to_pylist(), object)
        characters, size = table.column("characters").to_numpy(), table.column("bytes").to_numpy()
        lost = table.column("characters_read").to_numpy() - characters, table.column("bytes_read").to_numpy() - size
        for name in dict.fromkeys(source):
            mine = source == name
            self.ledger.add(name, "edited", 0, lost[0][mine].sum(), lost[1][mine].sum())
            for verdict in np.unique(verdicts[mine]):
                which = mine & (verdicts == verdict)
                self.ledger.add(name, self.decision.row(int(verdict)), which.sum(), characters[which].sum(), size[which].sum())

    def _cut_tails(self, table: Any, documents: Any, which: Array) -> tuple[Any, Any]:
        """Long documents lose their ends, which become validation documents of their own."""
        import pyarrow as pa

        if not len(which):
            return None, None
        texts, tails = documents.column("text").to_pylist(), []
        for row in which.tolist():
            whole = texts[row]
            at = tail_start(whole, self.holdout)
            tail = documents.slice(row, 1).to_pylist()[0]
            tail |= {"id": f"{tail['id']}-end", "line": tail["line"] + whole.count("\n", 0, at), "text": whole[at:]}
            texts[row] = whole[:at]
            tails.append(tail)
            moved = len(whole) - at, len(whole[at:].encode())
            self.ledger.add(tail["source"], "split", 1)
            self.ledger.add(tail["source"], "train", 0, -moved[0], -moved[1])
            self.ledger.add(tail["source"], "validation", 1, *moved)
        index = documents.schema.get_field_index("text")
        heads = documents.set_column(index, schema().field("text"), pa.array(texts, pa.large_string()))
        return heads, pa.Table.from_pylist(tails, schema=schema())

    def _drop(self, table: Any, verdicts: Array, place: int) -> None:
        import pyarrow as pa

        which = np.flatnonzero((verdicts >= FIRST) | (verdicts == EMPTY))
        if not len(which):
            return
        few = table.take(which)
        rows = few.select(["source", "path", "line"]).to_pylist()
        ids, texts = few.column("id").to_pylist(), few.column("text").to_pylist()
        for number, row in enumerate(rows):
            verdict = int(verdicts[which[number]])
            row |= {"id": f"{ids[number]:016x}", "beginning": texts[number][:200]}
            row |= self._reason(few, number, verdict, place + int(which[number]))
        self._dropped.write_table(pa.Table.from_pylist(rows, schema=dropped_schema()))

    def _reason(self, table: Any, number: int, verdict: int, place: int) -> dict[str, Any]:
        """Rule, value, threshold and twin of one dropped document."""
        if verdict == EMPTY:
            return {"rule": "empty", "value": 0.0, "threshold": 1.0, "twin": None}
        row = self.decision.row(verdict)
        if verdict - FIRST in self._rules:
            name, rule = self._rules[verdict - FIRST]
            value = float(table.column(f"signal:{rule.signal}")[number].as_py())
            return {"rule": f"{name}.{rule.name}", "value": value, "threshold": rule.threshold(value), "twin": None}
        twin = int(self.decision.twins[place])
        value = self._similar[row].similarity(int(self.decision.shared_keys[place]))
        return {"rule": row, "value": value, "threshold": None, "twin": f"{int(self.decision.ids[twin]):016x}"}


def tail_start(text: str, holdout: float) -> int:
    """Where the held-out end of a document begins: about its last `holdout`, at a paragraph or line where one is near."""
    wanted = min(max(int(len(text) * (1 - holdout)), 1), len(text) - 1)
    reach = max(int(len(text) * holdout) // 2, 1)
    for mark in ("\n\n", "\n", "。", " "):
        after = text.find(mark, wanted, min(wanted + reach, len(text) - len(mark)))
        before = text.rfind(mark, max(wanted - reach, 0), wanted)
        found = [at + len(mark) for at in (after, before) if at >= 0]
        if found:
            return min(found, key=lambda at: abs(at - wanted))
    return wanted


def _as_documents(table: Any, sample: Mapping[str, str]) -> Any:
    """The rows of a measured shard with the columns of a dataset."""
    import pyarrow as pa

    ids = pa.array([f"{number:016x}" for number in table.column("id").to_pylist()], pa.string())
    columns = {"id": ids, **{name: table.column(name) for name in ("source", "path", "line", "text", "licence", "language")}}
    more = {name: table.column(f"sample:{name}") for name in sample}
    return pa.table({**columns, "signals": _signals(table), **more}, schema=schema(sample))


def _signals(table: Any) -> Any:
    """Signal columns as one map a row; signals that do not apply are left out."""
    import pyarrow as pa

    names = [name for name in table.column_names if name.startswith("signal:")]
    values = np.array([table.column(name).to_numpy() for name in names]).reshape(len(names), table.num_rows).T
    there = ~np.isnan(values)
    offsets = np.append(0, np.cumsum(there.sum(1))).astype(np.int32)
    keys = pa.DictionaryArray.from_arrays(
        np.tile(np.arange(len(names), dtype=np.int32), (table.num_rows, 1))[there],
        pa.array([name.removeprefix("signal:") for name in names], pa.string()),
    ).cast(pa.string())
    return pa.MapArray.from_arrays(offsets, keys, pa.array(values[there]))


def write_quarantine(folder: Path, shards: Sequence[Path], passed: Sequence[Passed]) -> dict[str, int]:
    """quarantine.jsonl: what could not be read, then what was passed over. Returns how often each of the two happened."""
    counts = {"unreadable": 0, "passed over": len(passed)}
    with open(folder / "quarantine.jsonl", "wb") as out:
        for path in shards:
            with open(path.with_suffix(".bad.jsonl"), "rb") as notes:
                shutil.copyfileobj(notes, out)
                notes.seek(0)
                counts["unreadable"] += sum(1 for _ in notes)
        for item in passed:
            said = {
                "source": item.source,
                "path": item.path,
                "line": 0,
                "reason": f"passed over: {item.reason}",
                "bytes": item.bytes,
            }
            out.write((json.dumps(said, ensure_ascii=False) + "\n").encode())
    return counts
