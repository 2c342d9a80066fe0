"""A dataset and a tokenizer of a few kilobytes, and the pretrain command with a machine that needs no measuring.

As a script it is the command line: small_pretrain.py pretrain DATASET -o MODEL ...
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SMALL = {
    "steps": 30, "batch_rows": 4, "micro_rows": 2, "row_tokens": 24, "dtype": "float32",
    "model": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
}  # fmt: skip
SENTENCES = ("the cat sat on the mat. ", "a dog ran to the river. ", "birds sing when it rains. ", "炉火纯青，丹成九转。")


def pace():
    """A machine as `danlu.train.speed.measure` would describe it."""
    from danlu.train.plan import Pace

    return Pace(
        threads=1, matmul_flops={"float32": 5e10, "bfloat16": 5e10}, bandwidth=1e10, layer_s=1e-4, flop_s=1e-10, element_s=1e-9,
        memory_bytes=8_000_000_000,
    )  # fmt: skip


def _sentences(split: str, index: int) -> str:
    return SENTENCES[index % 4] * (2 + index % 5) + f"{split} {index}"


def write_dataset(out: Path, documents: int = 60, heldout: int = 5, write: Callable[[str, int], str] = _sentences) -> Path:
    """A dataset artefact as the prepare stage leaves it. write: the text of a document by its split and number."""
    import pyarrow as pa

    from danlu.core.artifact import publish
    from danlu.core.settings import Settings
    from danlu.data.shards import ShardWriter, schema

    class Made(Settings):
        documents: int

    def rows(split, count):
        for index in range(count):
            source, path = ("book", "web")[index % 2], f"{split}-{index % 3}.txt"
            yield {"id": f"{split}{index}", "source": source, "path": path, "line": index + 1,
                   "text": write(split, index), "licence": "CC0-1.0", "language": "en", "signals": {}}  # fmt: skip

    with publish(out, kind="dataset", stage="prepare", settings=Made(documents=documents)) as draft:
        for split, count in (("train", documents), ("validation", heldout)):
            writer = ShardWriter(draft.path, split)
            writer.write(pa.Table.from_pylist(list(rows(split, count)), schema=schema()))
            writer.close()
        draft.licences, draft.sources = ["CC0-1.0"], ["book", "web"]
    return out


def write_tokenizer(out: Path, *more: str) -> Path:
    """A tokenizer artefact of bytes, with `more` special tokens."""
    from tests.tiny import tiny_tokenizer

    from danlu.core.artifact import publish
    from danlu.core.settings import Settings

    with publish(out, kind="tokenizer", stage="tokenizer", settings=Settings()) as draft:
        tiny_tokenizer(*more).save(draft.path)
    return out


def settings(folder: Path, out: str = "model", **changes: Any) -> dict[str, Any]:
    """Settings of a small run over `folder`/data and `folder`/tokenizer."""
    return {**SMALL, "dataset": folder / "data", "tokenizer": folder / "tokenizer", "out": folder / out, **changes}


def flags(settings: dict[str, Any], prefix: str = "") -> list[str]:
    """The same as words of the command line."""
    words = []
    for key, value in settings.items():
        words += flags(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"--{prefix}{key}={value}"]
    return words


if __name__ == "__main__":
    from danlu.cli import main
    from danlu.train import speed

    speed.measure = lambda threads=None, dtype=None: pace()
    sys.exit(main())
