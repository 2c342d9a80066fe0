"""A text far too small for its budget: bits per byte of other text, with the weights of the lowest held-out loss and the last.

The first kilobytes of a corpus are trained on, its last 40 kB scored by `danlu evaluate`. Both runs go side by side, each on a
core of its own. A size that is measured already is kept; remove the result file to measure anew.
Usage: small_text.py --text en=FILE zh=FILE [--kilobytes 10 30 100 300] [--budget 1m]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness

HELD_OUT_BYTES = 40_000
NOTES = (
    "One run of each; the two go side by side, and their pace, so their length and shape, differ. Where both have the weights of "
    "their last step (300 kB), the option did nothing and the figures differ by that alone, up to 7 %."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", nargs="+", required=True, help="NAME=FILE of each corpus")
    parser.add_argument("--kilobytes", nargs="+", type=int, default=[10, 30, 100, 300])
    parser.add_argument("--budget", default="1m")
    given = parser.parse_args()
    path = harness.RESULTS / "small_text.json"
    figures: dict[str, Any] = json.loads(path.read_text())["figures"] if path.is_file() else {}
    for name, _, file in (one.partition("=") for one in given.text):
        for kilobytes in given.kilobytes:
            case = f"{name}, {kilobytes} kB, {given.budget}"
            if case in figures:
                continue
            with tempfile.TemporaryDirectory() as place:
                figures[case] = measure(Path(place), Path(file).read_bytes(), kilobytes, given.budget)
            print(case, figures[case], file=sys.stderr, flush=True)
            harness.save(
                "small_text", claim="bits per byte of other text after too little, weights of the lowest loss and last",
                target="none was set", settings={"held_out_bytes": HELD_OUT_BYTES, "threads": 1, "holdout": 0.1}, figures=figures,
                notes=NOTES,
                command=f"small_text.py --text en=FILE zh=FILE --budget {given.budget}",
            )  # fmt: skip


def measure(place: Path, corpus: bytes, kilobytes: int, budget: str) -> dict[str, Any]:
    (place / "text.txt").write_text(corpus[: 1000 * kilobytes].decode(errors="ignore"), encoding="utf-8")
    (place / "other.txt").write_text(corpus[-HELD_OUT_BYTES:].decode(errors="ignore"), encoding="utf-8")
    ended(danlu(place, "prepare", "text.txt", "-o", "data", "--holdout", "0.1"))
    ended(*(danlu(place, "pretrain", "data", "-o", keep, "--budget", budget, "--weights", keep) for keep in ("best", "last")))
    ended(danlu(place, "evaluate", "best", "last", "--text", "other.txt", "-o", "found"))
    found = json.loads((place / "found" / "report.json").read_text())["models"]
    of = {keep: json.loads((place / keep / "lineage.json").read_text()) for keep in ("best", "last")}
    return {
        **{keep: {"bits_per_byte": one["bits_per_byte"], "steps": of[keep]["metrics"]["steps"],
                  "weights_of_step": of[keep]["metrics"].get("weights_of_step", of[keep]["metrics"]["steps"])}
           for keep, one in zip(("best", "last"), found, strict=True)},
        "passes": of["best"]["ledger"]["tokens"]["epochs"], "parameters": of["best"]["metrics"]["parameters"],
    }  # fmt: skip


def danlu(place: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "danlu", *words, "--quiet"], cwd=place, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def ended(*runs: subprocess.Popen[bytes]) -> None:
    """Wait for all; a failure is raised when none is left behind."""
    codes = [run.wait() for run in runs]
    if any(codes):
        raise RuntimeError(f"exit codes {codes}: {[run.args for run in runs]}")


if __name__ == "__main__":
    main()
