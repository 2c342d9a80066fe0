"""One event log: everything a run has to tell passes here once, and sinks decide who hears it.

A sink is any object with `event(kind, fields)`; the console is one, a JSON-lines file another, TensorBoard a third.
Text for people goes to stderr, so stdout stays clean for what a stage produces.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

from danlu.core.errors import MissingExtra
from danlu.core.units import count, duration


class Sink(Protocol):
    """Hears every event."""

    def event(self, kind: str, fields: dict[str, Any]) -> None: ...


_sinks: list[Sink] = []


def emit(kind: str, **fields: Any) -> None:
    """Tell all sinks. `say` carries a line for people, `warn` one they must not miss, `progress` a step of long work."""
    for sink in list(_sinks):
        sink.event(kind, fields)


def say(text: str) -> None:
    """A line for people."""
    emit("say", text=text)


def warn(text: str) -> None:
    """A line that people must not miss."""
    emit("warn", text=text)


@contextmanager
def listening(*sinks: Sink) -> Iterator[None]:
    """Attach sinks for the length of a block; a sink with `close()` is closed at its end."""
    _sinks.extend(sinks)
    try:
        yield
    finally:
        for sink in sinks:
            _sinks.remove(sink)
            close = getattr(sink, "close", None)
            if close:
                close()


@contextmanager
def silent() -> Iterator[None]:
    """Nobody hears of anything for the length of a block: one of several processes speaks for all."""
    kept = list(_sinks)
    _sinks.clear()
    try:
        yield
    finally:
        _sinks[:] = kept


class Progress:
    """Long work that says how far it is: `advance(n)` as it goes."""

    def __init__(self, label: str, total: float | None, unit: str):
        self.label, self.total, self.unit = label, total, unit
        self.done, self.started, self._told = 0.0, time.monotonic(), 0.0

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Record progress; sinks hear of it at most ten times a second."""
        self.done += amount
        now = time.monotonic()
        if now - self._told >= 0.1:
            self._told = now
            self.tell(note)

    def tell(self, note: str = "", finished: bool = False) -> None:
        """Tell the sinks where this work stands."""
        spent = max(time.monotonic() - self.started, 1e-9)
        rate = self.done / spent
        left = (self.total - self.done) / rate if self.total and rate else None
        emit("progress", label=self.label, done=self.done, total=self.total, unit=self.unit, rate=rate, seconds=spent,
             left_s=left, note=note, finished=finished)  # fmt: skip


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "") -> Iterator[Progress]:
    """`with progress("read", total=n, unit="documents") as bar: bar.advance(k)`."""
    bar = Progress(label, total, unit)
    bar.tell()
    yield bar
    bar.tell(finished=True)


class JsonLines:
    """Appends every event but progress to a file, one JSON object a line, flushed as it comes."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_cut_line(path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # open as long as the sink listens

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        if kind != "progress":
            line = {"time": round(time.time(), 3), "kind": kind, **fields}
            self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def _drop_cut_line(path: Path) -> None:
    """Remove a last line that a crash cut, or the next event would be written on its end."""
    if path.exists() and not (text := path.read_bytes()).endswith(b"\n") and text:
        with open(path, "r+b") as file:
            file.truncate(text.rfind(b"\n") + 1)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Events of a JSON-lines log; a last line cut by a crash is left out."""
    if path.exists():
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    if line.endswith("\n"):
                        raise


class Console:
    """Lines and progress for people on stderr; a moving bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, stream: TextIO | None = None, every_s: float = 10.0):
        self.stream = stream or sys.stderr
        self.every_s = every_s
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._told: dict[str, float] = {}
        self.moving = self.stream.isatty()

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        if kind == "progress":
            self._move(fields) if self.moving else self._report(fields)
        elif kind in ("say", "warn"):
            text = ("warning: " if kind == "warn" else "") + fields["text"]
            if self._bars:
                self._bars.console.print(text, markup=False, highlight=False, style="yellow" if kind == "warn" else None)
            else:
                print(text, file=self.stream, flush=True)

    def close(self) -> None:
        if self._bars:
            self._bars.stop()
            self._bars = None

    def _move(self, fields: dict[str, Any]) -> None:
        if self._bars is None:
            from rich.console import Console as Rich
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                       TextColumn("{task.fields[note]}"))  # fmt: skip
            self._bars = Bars(*columns, console=Rich(file=self.stream), transient=True)
            self._bars.start()
        label = fields["label"]
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=fields["total"], note="")
        self._bars.update(self._tasks[label], completed=int(fields["done"]), note=fields["note"])
        if fields["finished"]:
            self._bars.remove_task(self._tasks.pop(label))
            if not self._tasks:
                self.close()
            print(_sentence(fields), file=self.stream, flush=True)

    def _report(self, fields: dict[str, Any]) -> None:
        label, now = fields["label"], time.monotonic()
        if fields["finished"] or now - self._told.setdefault(label, now) >= self.every_s:
            self._told[label] = now
            print(_sentence(fields), file=self.stream, flush=True)


def _sentence(fields: dict[str, Any]) -> str:
    total = f"/{count(fields['total'])}" if fields["total"] else ""
    left = f", {duration(fields['left_s'])} left" if fields["left_s"] and not fields["finished"] else ""
    note = f", {fields['note']}" if fields["note"] else ""
    return (f"{fields['label']}: {count(fields['done'])}{total} {fields['unit']} in {duration(fields['seconds'])} "
            f"({count(fields['rate'])} {fields['unit']}/s{left}){note}")  # fmt: skip


class TensorBoard:
    """Numbers of `step` events as TensorBoard scalars (extra: tensorboard)."""

    def __init__(self, folder: Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            raise MissingExtra("tensorboard", "the TensorBoard log") from None
        self._writer = SummaryWriter(str(folder))

    def event(self, kind: str, fields: dict[str, Any]) -> None:
        if kind in ("step", "heldout"):
            for name, value in fields.items():
                if isinstance(value, int | float) and name != "step":
                    self._writer.add_scalar(f"{kind}/{name}", value, fields["step"])

    def close(self) -> None:
        self._writer.close()
