"""Run folders for the studio: what a training run has told so far, read from its work folder and never from outside the root."""

import functools
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from danlu.core import lineage
from danlu.core.artifact import work_folder
from danlu.core.log import read_events

_DEPTH, _MOST_RUNS, _MOST_SAMPLES, _MOST_NOTES = 4, 200, 64, 200
_ALIVE_S = 120.0
"""A run whose log is older is not under way."""
_CURVE = ("step", "tokens", "loss", "grad_norm", "lr", "tokens_per_s", "seconds")
_HELDOUT = ("step", "tokens", "loss", "bits_per_byte")


def confined(root: Path, name: str) -> Path | None:
    """The work folder of a run by its name; None where there is none, or where it would lie outside the root."""
    if not name or "\x00" in name or any(part in ("", ".", "..") for part in name.split("/")):
        return None
    place = work_folder(root / name)
    try:
        inside = place.resolve().is_relative_to(root.resolve())
    except OSError:
        return None
    return place if inside and (place / "events.jsonl").is_file() else None


def listed(root: Path) -> list[dict[str, Any]]:
    """Every run below the root, the newest first."""
    places = sorted(_found(root, _DEPTH), key=lambda place: -(place / "events.jsonl").stat().st_mtime)
    return [dict(_summary(root, place, *_stamp(place))) for place in places[:_MOST_RUNS]]


def _stamp(place: Path) -> tuple[int, int, int]:
    """Changes when the run has told something, when it has finished, and every minute, since a silent run counts as stopped."""
    log, run = (place / "events.jsonl").stat(), place / "run.json"
    return log.st_mtime_ns, run.stat().st_mtime_ns if run.is_file() else 0, int(time.time() // 60)


@functools.lru_cache(maxsize=256)
def _summary(root: Path, place: Path, *stamp: int) -> dict[str, Any]:
    return summary(root, place, list(read_events(place / "events.jsonl")))


def _found(folder: Path, depth: int) -> Iterator[Path]:
    if depth == 0:
        return
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if place.is_symlink() or not place.is_dir() or place.name.startswith("."):
            continue
        if place.name.endswith(".run") and (place / "events.jsonl").is_file():
            yield place
        elif not place.name.endswith(".run"):
            yield from _found(place, depth - 1)


def summary(root: Path, place: Path, events: list[dict[str, Any]]) -> dict[str, Any]:
    """A run in a line."""
    step: dict[str, Any] = next((one for one in reversed(events) if one.get("kind") == "step"), {})
    held: dict[str, Any] = next((one for one in reversed(events) if one.get("kind") in ("heldout", "heldout_final")), {})
    updated = (place / "events.jsonl").stat().st_mtime
    finished = bool(_json(place / "run.json").get("finished"))
    state = "finished" if finished else "running" if time.time() - updated < _ALIVE_S else "stopped"
    return {
        "object": "danlu.run", "name": place.relative_to(root).as_posix().removesuffix(".run"), "state": state,
        "updated": round(updated, 3), "step": step.get("step"), "steps": _steps(place),
        "tokens": step.get("tokens"), "loss": finite(step.get("loss")), "heldout_loss": finite(held.get("loss")),
        "heldout_bits_per_byte": finite(held.get("bits_per_byte")), "tokens_per_s": finite(step.get("tokens_per_s")),
        "seconds": finite(step.get("seconds")),
    }  # fmt: skip


def whole(root: Path, place: Path, points: int) -> dict[str, Any]:
    """Everything about a run."""
    events = list(read_events(place / "events.jsonl"))
    kinds: dict[str, list[dict[str, Any]]] = {}
    for one in events:
        kinds.setdefault(str(one.get("kind")), []).append(one)
    notes = [one for one in events if one.get("kind") in ("say", "warn")][-_MOST_NOTES:]
    out = place.parent / place.name.removesuffix(".run")
    record = lineage.read(out) if (out / lineage.NAME).is_file() else None
    identity = _json(place / "run.json").get("identity")
    return nameless(summary(root, place, events) | {
        "curve": columns(kinds.get("step", []), _CURVE, points),
        "heldout": columns(kinds.get("heldout", []), _HELDOUT, points),
        "samples": [_only(one, "step", "time", "prompt", "text") for one in kinds.get("sample", [])[-_MOST_SAMPLES:]],
        "guard": [_only(one, *(name for name in one if name != "kind")) for one in kinds.get("guard", [])[-_MOST_NOTES:]],
        "checkpoints": [_only(one, "step", "time") for one in kinds.get("checkpoint", [])[-_MOST_NOTES:]],
        "notes": [_only(one, "time", "kind", "text") for one in notes],
        "plan": _json(place / "plan.json") or None, "settings": identity,
        "ledger": record.ledger if record else None, "metrics": record.metrics if record else None,
    })  # fmt: skip


def columns(events: list[dict[str, Any]], names: tuple[str, ...], points: int) -> dict[str, list[Any]]:
    """Columns of equal length, thinned evenly; the first and the last event stay."""
    if len(events) > points:
        events = [events[round(at * (len(events) - 1) / (points - 1))] for at in range(points)]
    return {name: [finite(one.get(name)) for one in events] for name in names}


def finite(value: Any) -> Any:
    """A value that JSON can write: what is no number is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def nameless(value: Any) -> Any:
    """A tree without places of this machine: of each absolute path only the last part, of numbers only finite ones."""
    if isinstance(value, dict):
        return {name: nameless(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [nameless(part) for part in value]
    if isinstance(value, str) and value.startswith("/") and len(value) > 1 and "\n" not in value and Path(value).is_absolute():
        return last_part(value)
    return finite(value)


def last_part(path: str) -> str:
    """The name of a file or folder.

    >>> last_part("/data/corpus/part.txt")
    'part.txt'
    """
    return Path(path).name or path


def _only(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: finite(event.get(name)) for name in names}


def _steps(place: Path) -> int | None:
    """Steps of the whole run, as decided last."""
    try:
        decided = json.loads((place / "horizon.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        decided = []
    if isinstance(decided, list) and decided and isinstance(decided[-1], dict):
        return decided[-1].get("steps")
    return _json(place / "plan.json").get("steps")


def _json(path: Path) -> dict[str, Any]:
    """A small file of the run; empty where it is not there or is just being written."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
