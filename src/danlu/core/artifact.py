"""An artefact: a folder with a lineage record, written aside, fsynced, renamed; a half artefact does not exist.

Long stages keep what they need to go on in a work folder beside the output: `OUT.run/`.
"""

import contextlib
import datetime
import glob
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danlu.core import files, lineage
from danlu.core.errors import NotAnArtifact, OutputExists
from danlu.core.lineage import Input, Lineage
from danlu.core.settings import Settings


@dataclass(frozen=True)
class Artifact:
    """An artefact on disk."""

    path: Path
    lineage: Lineage

    @property
    def id(self) -> str:
        return self.lineage.id

    @property
    def kind(self) -> str:
        return self.lineage.kind

    def as_input(self, role: str) -> Input:
        """This artefact as an input of another."""
        return Input(role=role, id=self.id, path=str(self.path.resolve()))


def open_artifact(path: Path | str, *kinds: str, verify: bool = False) -> Artifact:
    """Open an artefact folder. Raises NotAnArtifact when it is none, or not of one of `kinds`.

    Sizes are always checked against the record; `verify` rehashes every file.
    """
    path = Path(path)
    record = lineage.read(path)
    if kinds and record.kind not in kinds:
        raise NotAnArtifact(f"{path} is a {record.kind}, made by `danlu {record.stage}`; this needs a {' or '.join(kinds)}.")
    for output in record.outputs:
        there = path / output.file
        if verify or not there.is_file() or there.stat().st_size != output.bytes:
            lineage.verify(path, record)
            break
    return Artifact(path, record)


@dataclass
class Draft:
    """An artefact being written: put files under `path`, fill in the records, leave the block."""

    path: Path
    inputs: list[Input] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    wall_s: float = 0.0
    """Seconds that earlier, interrupted attempts took; the block's own time is added."""
    result: Artifact | None = None
    """The finished artefact, once the block has ended."""


def check_out(out: Path, overwrite: bool) -> None:
    """Raise OutputExists before any work when `out` is taken."""
    _sweep(out)
    if out.exists() and not overwrite:
        kind = "a finished artefact" if (out / lineage.NAME).is_file() else "not empty" if _filled(out) else "an empty folder"
        if kind == "an empty folder":
            return
        raise OutputExists(f"{out} exists and is {kind}. Choose another --out, or say --overwrite to replace it.")


@contextmanager
def publish(
    out: Path, *, kind: str, stage: str, settings: Settings, inputs: Sequence[Input] = (), overwrite: bool = False
) -> Iterator[Draft]:
    """Write an artefact whole: the block fills a folder aside, which takes the name `out` only when all is on disk."""
    check_out(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.parent / f".{out.name}.partial-{os.getpid()}"
    started = time.monotonic()
    draft = Draft(aside, list(inputs))
    try:
        with files.writing(out):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            yield draft
            outputs = lineage.list_outputs(aside)
            record = Lineage(
                id=lineage.identify(outputs), kind=kind, stage=stage, outputs=outputs, inputs=tuple(draft.inputs),
                created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                settings=settings.model_dump(mode="json"), code=lineage.code_version(), machine=lineage.machine(),
                seeds=draft.seeds, ledger=draft.ledger, metrics=draft.metrics, licences=tuple(draft.licences),
                sources=tuple(draft.sources), wall_s=round(draft.wall_s + time.monotonic() - started, 3),
            )  # fmt: skip
            files.write_text(aside / lineage.NAME, lineage.dump(record))
            files.share_tree(aside)
            files.sync_tree(aside)
            replace_folder(aside, out)
            draft.result = Artifact(out, record)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def replace_folder(new: Path, out: Path) -> None:
    """Give a finished folder its name; an old folder of that name steps aside first and goes last."""
    old = out.parent / f".{out.name}.replaced-{os.getpid()}"
    if out.exists():
        out.rename(old)
    new.rename(out)
    files.sync_folder(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sweep(out: Path) -> None:
    """Clear away what killed attempts at `out` left aside, named after processes that are no more; an artefact that one was
    about to replace gets its name back."""
    for left in sorted(out.parent.glob(f".{glob.escape(out.name)}.*-*")):
        purpose, _, process = left.name.removeprefix(f".{out.name}.").rpartition("-")
        if purpose not in ("partial", "replaced") or not process.isdigit() or _alive(int(process)):
            continue
        if purpose == "replaced" and not out.exists():
            with contextlib.suppress(FileNotFoundError):  # another process of this run was first
                left.rename(out)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is there and not ours
    return True


def work_folder(out: Path) -> Path:
    """Where a long stage keeps its state while `out` is not finished, and its events afterwards."""
    return out.parent / f"{out.name}.run"


def _filled(folder: Path) -> bool:
    return not folder.is_dir() or any(folder.iterdir())
