"""Memory of `danlu prepare` on text larger than it: generated JSON Lines under a limit on the whole process tree.

usage: python benchmarks/data_memory.py [--gigabytes 5] [--limit_megabytes 1500] [--workers 2]
The text lies in a temporary folder and is deleted afterwards. Every document differs from all others, so none is saved on.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import data_corpus
import harness


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--limit_megabytes", type=float, default=1500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where to keep the text meanwhile")
    given = parser.parse_args()
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        place = Path(folder)
        size = _generate(place / "text.jsonl", int(given.gigabytes * 1e9))
        command = [
            "-m",
            "danlu",
            "prepare",
            str(place / "text.jsonl"),
            "-o",
            str(place / "out"),
            "--engine.workers",
            str(given.workers),
        ]
        run = harness.run([sys.executable, *command], env={"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}, timeout_s=4 * 3600)
        ledger = json.loads((place / "out" / "ledger.json").read_text())["total"]["all"]
    peak = run.peak_bytes / 1e6
    path = harness.save(
        "data_memory", claim="memory stays bounded on inputs larger than it", target="5 GB of text under 1.5 GB",
        settings={"text_bytes": size, "workers": given.workers, "limit_megabytes": given.limit_megabytes},
        figures={"peak_MB": peak, "seconds": run.seconds, "MB/s": size / 1e6 / run.seconds, "ledger": ledger,
                 "within limit": peak < given.limit_megabytes},
        notes="Peak of the resident sum over the process tree, sampled fifty times a second; one run.",
    )  # fmt: skip
    print(f"{path}: {size / 1e9:.2f} GB at a peak of {peak:.0f} MB in {run.seconds:.0f} s")
    if peak >= given.limit_megabytes:
        raise SystemExit(f"over the limit of {given.limit_megabytes:.0f} MB")


def _generate(path: Path, wanted: int) -> int:
    """Documents of shuffled paragraphs: cheap to make, each one new."""
    corpus, rng = data_corpus.Corpus(1), random.Random(1)
    paragraphs = [part for _ in range(2000) for part in corpus.document().split("\n\n")]
    size = 0
    with open(path, "w", encoding="utf-8") as out:
        while size < wanted:
            text = "\n\n".join(rng.sample(paragraphs, 6))
            size += out.write(json.dumps({"text": text}) + "\n")
    return size


if __name__ == "__main__":
    main()
