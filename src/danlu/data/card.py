"""The data card."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from danlu.core import files
from danlu.data.pipeline import Prepared
from danlu.data.plan import Shard
from danlu.data.steps import Steps


def inputs(shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
    """One lineage input a source: the hash of its files' hashes."""
    sources: dict[str, dict[str, Any]] = {}
    digests: dict[str, Any] = {}
    for piece in (piece for shard in shards for piece in shard.pieces):
        one = sources.setdefault(piece.source, {"role": f"source {piece.source}", "path": piece.path, "bytes": 0})
        one["bytes"] += piece.bytes
        digests.setdefault(piece.source, hashlib.sha256()).update(f"{piece.key}\0{piece.sha256}\0{piece.start}\n".encode())
    for source, one in sources.items():
        yield {**one, "id": f"sha256:{digests[source].hexdigest()}"}


def metrics(done: Prepared) -> dict[str, Any]:
    """Headline figures for the lineage record."""
    return {
        split: dict(zip(("documents", "characters", "bytes"), done.ledger.get(split), strict=True))
        for split in ("train", "validation")
    }


def write(folder: Path, steps: Steps, done: Prepared) -> None:
    """README.md."""
    files.write_text(folder / "README.md", "# Dataset\n")
