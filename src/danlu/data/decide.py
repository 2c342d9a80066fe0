"""Which documents stay: rules on stored signals, then copies, then the held-out part. Reads no text.

Memory: about 50 bytes a document and KEYS_BYTES, or one column of keys where that is more; all keys only of documents that have
copies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from danlu.core.seeds import derive
from danlu.data.dedup import DEDUPS
from danlu.data.dedup.clusters import Clusters, nearest_kept
from danlu.data.filters import FILTERS
from danlu.data.filters.base import Rule
from danlu.data.letters import Array, mix
from danlu.data.steps import Steps

TRAIN, VALIDATION, TAIL, EMPTY = range(4)
"""Verdicts: kept to train on, kept to validate on, kept with its end held out, nothing left; then one for each rule and dedup."""
FIRST = 4
LONG_CHARACTERS = 65_536
"""A longer document gives its end to validation instead of being chosen whole."""

KEYS_BYTES = 1 << 25
"""Columns of keys are read so many bytes at a time: each reading opens every shard."""


@dataclass
class Decision:
    """A verdict for every document, in shard and row order."""

    verdicts: Array
    """(D,) int16; see the constants and `names`."""
    twins: Array
    """(D,) int64: place of the surviving copy, -1 for documents that are no copies."""
    shared_keys: Array
    """(D,) int16: how many keys a copy shares with its survivor."""
    ids: Array
    names: list[str]
    """Ledger row of verdict FIRST + i."""
    rules: list[tuple[str, Rule]]
    """Profile-aware rules in the order of their verdicts; dedups come after."""

    def row(self, verdict: int) -> str:
        """The ledger row of a verdict."""
        named = ("train", "validation", "train", "dropped: empty")
        return named[verdict] if verdict < FIRST else self.names[verdict - FIRST]


def decide(steps: Steps, shards: Sequence[Path], holdout: float, seed: int) -> Decision:
    """Judge all documents of the measured shards."""
    rules = [
        (config.name, filter, rule) for config in steps.filters for filter in [FILTERS.build(config)] for rule in filter.rules()
    ]
    dedups = [DEDUPS.build(config) for config in steps.dedups]
    names = [f"dropped: {name}.{rule.name}" for name, _, rule in rules] + [f"{dedup.kind} copies" for dedup in dedups]
    sources: dict[str, int] = {}
    judged = [_judge(path, rules, sources) for path in shards]
    verdicts, ids, quality, source, characters = (np.concatenate(parts) for parts in zip(*judged, strict=True))
    rest = np.full(len(verdicts), -1), np.zeros(len(verdicts), np.int16)
    decision = Decision(verdicts, *rest, ids, names, [(name, rule) for name, _, rule in rules])
    for number, dedup in enumerate(dedups):
        _drop_copies(decision, FIRST + len(rules) + number, dedup.columns(), shards, quality, source)
    most = LONG_CHARACTERS if steps.form is None else None
    _hold_out(decision, characters, holdout, seed, most)
    return decision


def first_broken(table: Any, rules: Sequence[tuple[str, Any, Rule]]) -> Array:
    """Index of the first rule that each row of a measured shard breaks, -1 for none."""
    broken = np.full(table.num_rows, -1, np.int16)
    profile = np.array(table.column("profile").to_pylist(), object)
    for number, (_, filter, rule) in enumerate(rules):
        applies = np.isin(profile, filter.profiles)
        drops = rule.drops(table.column(f"signal:{rule.signal}").to_numpy()) & applies & (broken < 0)
        broken[drops] = number
    return broken


def _judge(path: Path, rules: Sequence[tuple[str, Any, Rule]], sources: dict[str, int]) -> tuple[Array, ...]:
    """Verdict, id, quality, place of the source (in the order in which `sources` got to know them) and characters of each row."""
    signals = sorted({f"signal:{rule.signal}" for _, _, rule in rules})
    table = _read(path, ["id", "source", "profile", "characters", "quality", *signals])
    broken = first_broken(table, rules)
    verdicts = np.where(broken >= 0, broken + FIRST, TRAIN).astype(np.int16)
    ids, quality, characters = (table.column(name).to_numpy() for name in ("id", "quality", "characters"))
    verdicts[characters == 0] = EMPTY
    source = np.array([sources.setdefault(name, len(sources)) for name in table.column("source").to_pylist()], np.int32)
    return verdicts, ids, quality, source, characters


def _read(path: Path, columns: Sequence[str]) -> Any:
    """Columns of a measured shard."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(list(columns))


def _keys(shards: Sequence[Path], names: Sequence[str], documents: int) -> Iterator[Array]:
    """Columns of keys of all documents, one after another."""
    at_once = max(KEYS_BYTES // (8 * max(documents, 1)), 1)
    for begin in range(0, len(names), at_once):
        some = [f"key:{name}" for name in names[begin : begin + at_once]]
        tables = [_read(path, some) for path in shards]
        for name in some:
            yield np.concatenate([table.column(name).to_numpy() for table in tables])


def _drop_copies(
    decision: Decision, verdict: int, columns: Sequence[str], shards: Sequence[Path], quality: Array, source: Array
) -> None:
    """Drop what shares a key with a document that stays. Of copies the best stays: most unrepeated text, then first source,
    then smallest id; no order of work can change it."""
    live = np.flatnonzero(decision.verdicts == TRAIN)
    clusters = Clusters(len(live))
    for column in _keys(shards, columns, len(decision.ids)):
        clusters.join(column[live])
    crowded = live[np.bincount(clusters.root, minlength=len(live))[clusters.root] > 1]
    crowded = crowded[np.lexsort((decision.ids[crowded], source[crowded], -quality[crowded]))]
    keys = np.stack([column[crowded] for column in _keys(shards, columns, len(decision.ids))], axis=1)
    twins = nearest_kept(keys)
    copy = twins >= 0
    decision.verdicts[crowded[copy]] = verdict
    decision.twins[crowded[copy]] = crowded[twins[copy]]
    decision.shared_keys[crowded[copy]] = ((keys[copy] == keys[twins[copy]]) & (keys[copy] != 0)).sum(axis=1)


def _hold_out(decision: Decision, characters: Array, holdout: float, seed: int, most: int | None) -> None:
    """Choose validation documents by a hash of their ids; documents of more than `most` characters give their ends."""
    live = np.flatnonzero(decision.verdicts == TRAIN)
    if not holdout or not len(live):
        return
    draw = mix(decision.ids[live] ^ np.uint64(derive(seed, "holdout"))).astype(np.float64) / 2.0**64
    long = characters[live] > most if most else np.zeros(len(live), bool)
    chosen = (draw < holdout) & ~long
    if len(live) == 1:
        long[:], chosen[:] = bool(most), False  # a single labelled sample stays in one piece
    elif chosen.all():
        chosen[draw.argmax()] = False
    elif not chosen.any() and not long.any():
        chosen[draw.argmin()] = True  # a small set still needs something to validate on
    decision.verdicts[live[long]] = TAIL
    decision.verdicts[live[chosen]] = VALIDATION
