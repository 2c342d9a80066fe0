"""What every benchmark shares: fair repeated runs, spread, versions, the machine, and one result file a claim.

A claim is measured side by side: the two (or more) sides run in turn, A B A B ..., in the same conditions; the figure to quote
is the median of the pairwise ratios, because machines are shared and drift.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danlu.core import files
from danlu.core.lineage import code_version
from danlu.core.machine import describe

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Run:
    """One run of a command: wall seconds, peak resident bytes of the whole process tree, its standard output."""

    seconds: float
    peak_bytes: int
    stdout: str

    def json(self) -> Any:
        """The last line of the output, read as JSON."""
        return json.loads(self.stdout.strip().splitlines()[-1])


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = 3600) -> Run:
    """Run a command to its end. Raises RuntimeError with its error output when it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
                               env={**os.environ, **(env or {})})  # fmt: skip
    peak = _Peak(process.pid)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    finally:
        peak.stop()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{err[-4000:]}")
    return Run(seconds, peak.bytes, out)


def alternate(sides: Mapping[str, Callable[[], float]], repeats: int = 5, warmup: int = 1) -> dict[str, list[float]]:
    """Call each side in turn, `repeats` times after `warmup` uncounted rounds; returns each side's figures in order."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(warmup + repeats):
        for name, side in sides.items():
            value = side()
            if round_ >= warmup:
                found[name].append(value)
    return found


def spread(values: Sequence[float]) -> dict[str, float | int]:
    """Median, smallest, largest, and how many."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float | int]:
    """Spread of ours / theirs, pair by pair."""
    return spread([mine / other for mine, other in zip(ours, theirs, strict=True)])


def save(name: str, *, claim: str, target: str, settings: Mapping[str, Any], figures: Any,
         versions: Mapping[str, Any] | None = None, notes: str = "", command: str = "") -> Path:  # fmt: skip
    """Write benchmarks/results/NAME.json with everything needed to repeat and to judge; `command`: where NAME is no script's."""
    path = RESULTS / f"{name}.json"
    record = {
        "claim": claim, "target": target, "command": f"python benchmarks/{command or name + '.py'}",
        "date": datetime.date.today().isoformat(),
        "settings": _portable(settings), "figures": figures, "versions": dict(versions or {}), "notes": notes,
        "machine": describe(), "load_average": os.getloadavg(), "code": code_version(),
    }  # fmt: skip
    files.write_text(path, json.dumps(record, ensure_ascii=False, indent=1, default=str) + "\n")
    return path


def _portable(value: Any) -> Any:
    """Settings without the places of one machine: an absolute path becomes its last part."""
    if isinstance(value, Mapping):
        return {key: _portable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(part) for part in value]
    return Path(value).name if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()) else value


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=5, help="counted runs of each side")
    return parser


class _Peak:
    """Watches the resident memory of a process and all it started, fifty times a second."""

    def __init__(self, root: int):
        self.bytes = 0
        self._root, self._ended = root, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.bytes = max(self.bytes, sum(_resident(pid) for pid in _family(self._root)))


def _family(root: int) -> list[int]:
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                queue += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue  # it has just ended
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0  # it has just ended
