"""Cleaning speed beside datatrove: NFKC, Gopher quality and repetition rules, exact and MinHash dedup, two processes each.

usage: python benchmarks/data_throughput.py --peer /path/to/venv/bin/python [--megabytes 6] [--repeats 5]
The peer's environment: pip install 'datatrove[io,processing]' spacy.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import data_corpus
import harness

RULES = ["--editors", "nfkc", "--filters", "gopher:min_words=50,max_words=100000", "repetition", "--holdout", "0"]
ENV = {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--peer", required=True, help="Python of an environment with datatrove")
    parser.add_argument("--megabytes", type=float, default=6, help="text to clean")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        size = data_corpus.write(place / "text", int(given.megabytes * 1e6))
        large = data_corpus.write(place / "large", int(10 * given.megabytes * 1e6))
        found: dict[str, list[harness.Run]] = {"danlu": [], "datatrove": [], "danlu, ten times the text": []}
        for _ in range(given.repeats):
            found["danlu"].append(_danlu(place, "text"))
            found["datatrove"].append(_datatrove(given.peer, place))
            found["danlu, ten times the text"].append(_danlu(place, "large"))
        sizes = {"danlu": size, "datatrove": size, "danlu, ten times the text": large}
        figures = {name: _figures(runs, sizes[name]) for name, runs in found.items()}
        speed = harness.ratio([1 / run.seconds for run in found["danlu"]], [1 / run.seconds for run in found["datatrove"]])
        memory = harness.ratio([run.peak_bytes for run in found["danlu"]], [run.peak_bytes for run in found["datatrove"]])
        peer = harness.run([given.peer, "-c", "import importlib.metadata as m; print(m.version('datatrove'))"]).stdout.strip()
        path = harness.save(
            "data_throughput", claim="MB/s through NFKC, Gopher rules, exact and MinHash dedup against datatrove",
            target=">= 20x the speed, <= 0.5x the peak memory", versions={"datatrove": peer},
            settings={"text_bytes": size, "processes": 2, "repeats": given.repeats, "minhash": "14 bands of 8 rows, 5 words"},
            figures={**figures, "speed ratio": speed, "memory ratio": memory, "datatrove kept": found["datatrove"][-1].json()},
            notes="Wall time of the whole command, start-up included; peak memory is the resident sum over the process tree, "
                  "so memory that processes share counts for each.",
        )  # fmt: skip
    print(f"{path}: {speed['median']:.1f}x the speed, {memory['median']:.2f}x the memory")


def _danlu(place: Path, text: str) -> harness.Run:
    for name in ("out", "out.run"):
        shutil.rmtree(place / name, ignore_errors=True)
    command = ["-m", "danlu", "prepare", str(place / text), "-o", str(place / "out"), *RULES, "--engine.workers", "2"]
    return harness.run([sys.executable, *command], env=ENV)


def _datatrove(python: str, place: Path) -> harness.Run:
    shutil.rmtree(place / "peer", ignore_errors=True)
    script = Path(__file__).with_name("data_peer_datatrove.py")
    return harness.run([python, str(script), str(place / "text"), str(place / "peer")], env=ENV)


def _figures(runs: list[harness.Run], size: int) -> dict[str, object]:
    return {
        "MB/s": harness.spread([size / 1e6 / run.seconds for run in runs]),
        "seconds": harness.spread([run.seconds for run in runs]),
        "peak_MB": harness.spread([run.peak_bytes / 1e6 for run in runs]),
    }


if __name__ == "__main__":
    main()
