"""Lineage: what made an artefact, from what, with which settings and code, and what it measured.

`lineage.json` stands in every artefact; `trace` walks it back to the raw files.
"""

import functools
import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from danlu.core import files
from danlu.core.errors import DamagedArtifact, NotAnArtifact
from danlu.core.machine import describe, version

NAME = "lineage.json"
DESCRIPTIONS = frozenset({"README.md", "report.html", "report.json"})
"""Files that tell people about an artefact: they hold times, so they do not count in its id where there is more than them."""
SCHEMA_VERSION = 1


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Record):
    """Something that went into an artefact: another artefact (by id), a raw file (by sha256), or raw files together."""

    role: str
    id: str
    path: str
    bytes: int | None = None
    files: int | None = None
    """How many raw files lie below `path`, where it is not a single one."""


class Output(_Record):
    """A file of an artefact."""

    file: str
    bytes: int
    sha256: str


class Lineage(_Record):
    """The content of lineage.json."""

    schema_version: int = SCHEMA_VERSION
    id: str
    kind: str
    stage: str
    created: str
    settings: dict[str, Any]
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    code: dict[str, Any] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    ledger: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    licences: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    wall_s: float = 0.0
    machine: dict[str, Any] = Field(default_factory=dict)


def identify(outputs: Sequence[Output]) -> str:
    """The id of an artefact: a hash over the names and hashes of its files, 16 hex digits.

    The same weights have the same id however often their run was interrupted: descriptions are left out.
    """
    content = [output for output in outputs if output.file not in DESCRIPTIONS] or outputs
    text = "".join(f"{output.file}\0{output.sha256}\n" for output in sorted(content, key=lambda output: output.file))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def list_outputs(folder: Path) -> tuple[Output, ...]:
    """Every file below a folder but the lineage record, hashed, in name order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    return tuple(
        Output(file=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=files.sha256(path)) for path in paths
    )


def raw_input(role: str, path: Path) -> Input:
    """An input that is a file of the user's, known by its content."""
    return Input(role=role, id=f"sha256:{files.sha256(path)}", path=str(path), bytes=path.stat().st_size)


def read(folder: Path) -> Lineage:
    """The record of an artefact folder. Raises NotAnArtifact or DamagedArtifact."""
    path = folder / NAME
    if not folder.is_dir() or not path.is_file():
        found = "there is no such folder" if not folder.exists() else f"it holds no {NAME}"
        below = sorted(place.parent.name for place in folder.glob(f"*/{NAME}"))
        hint = f"Artefacts in it: {', '.join(below)}." if below else "Give the folder that a stage wrote with --out."
        raise NotAnArtifact(f"{folder} is not a Danlu artefact: {found}. {hint}")
    try:
        return Lineage.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise DamagedArtifact(f"{path} cannot be read: {error}. Make the artefact again, or restore the file.") from None


def verify(folder: Path, record: Lineage) -> None:
    """Rehash every file. Raises DamagedArtifact listing all that are missing, altered or extra."""
    found = {output.file: output for output in list_outputs(folder)}
    wrong = []
    for output in record.outputs:
        now = found.pop(output.file, None)
        if now is None:
            wrong.append(f"{output.file}: missing")
        elif now.bytes != output.bytes:
            wrong.append(f"{output.file}: {now.bytes} bytes, recorded {output.bytes}")
        elif now.sha256 != output.sha256:
            wrong.append(f"{output.file}: content differs from the recorded sha256")
    wrong += [f"{name}: not part of the artefact" for name in found]
    if wrong:
        raise DamagedArtifact("\n  ".join([f"{folder} is not as it was written:", *wrong, "Make it again or restore it."]))


def trace(folder: Path, depth: int = 0) -> Iterator[tuple[int, Input | None, Lineage | None]]:
    """Walk back from an artefact: (depth, the input that led here, its record or None for raw files and lost folders)."""
    record = read(folder)
    if depth == 0:
        yield 0, None, record
    for source in record.inputs:
        place = Path(source.path)
        place = place if place.is_absolute() else folder / place
        try:
            parent = read(place)
        except NotAnArtifact:
            yield depth + 1, source, None
            continue
        if parent.id != source.id:  # the folder was made again since
            yield depth + 1, source, None
            continue
        yield depth + 1, source, parent
        yield from trace(place, depth + 1)


@functools.cache
def code_version() -> dict[str, Any]:
    """Version of danlu and, in a checkout, its commit and whether it had changes."""
    here = Path(__file__).resolve().parent
    code: dict[str, Any] = {"danlu": version("danlu") or "unknown"}

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        if (Path(git("rev-parse", "--show-toplevel")) / "src" / "danlu").is_dir():
            code |= {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", str(here.parent)))}
    except (OSError, subprocess.SubprocessError):
        pass  # installed without git or outside a checkout: the version says enough
    return code


def dump(record: Lineage) -> str:
    """The text of lineage.json."""
    return json.dumps(record.model_dump(mode="json"), ensure_ascii=False, indent=1) + "\n"


def machine() -> dict[str, Any]:
    """The machine as lineage records it."""
    return describe()
