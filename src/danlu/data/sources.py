"""Which files a list of source words means: files, folders, globs, addresses; and what is passed over, with the reason."""

import difflib
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from danlu.core.errors import BadInput
from danlu.data import remote
from danlu.data.readers import READERS

VENDORED = frozenset({
    ".git", ".hg", ".svn", "__pycache__", "node_modules", "bower_components", "site-packages", "dist-packages", "vendor",
    "third_party", "thirdparty", ".venv", "venv", ".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache",
    ".ipynb_checkpoints", "dist", "build", "target", ".idea", ".vscode",
})  # fmt: skip
_PACKED = (".gz", ".zst")
_MINIFIED = (".min.js", ".min.css", "-lock.json", ".lock")


@dataclass(frozen=True)
class Found:
    """A file to read, and with which reader."""

    source: str
    path: str
    key: str
    place: str
    reader: str


@dataclass(frozen=True)
class Passed:
    """A file or folder that was not read, and why."""

    source: str
    path: str
    reason: str
    bytes: int


def name_of(word: str) -> tuple[str | None, str]:
    """`name=path` taken apart; a word without a name gives None.

    >>> name_of("wiki=dump/*.txt"), name_of("https://x.org/a?b=c")
    (('wiki', 'dump/*.txt'), (None, 'https://x.org/a?b=c'))
    """
    name, equals, rest = word.partition("=")
    if equals and name and not set(name) & set("/\\:*?[") and rest:
        return name, rest
    return None, word


def expand(words: Sequence[str], force: str | None, downloads: Path) -> Iterator[Found | Passed]:
    """Files of all sources, by the order of words, then of names. Raises BadInput for a word that means nothing.

    force: reader for every file, whatever its name. downloads: where the files behind addresses are kept.
    """
    choosers = _choosers()
    taken: set[str] = set()
    seen: dict[str, str] = {}
    for word in words:
        name, path = name_of(word)
        source = _unique(name or _default_name(path), taken)
        base, shown_base, explicit, entries = _entries(path, downloads)
        for place, reason in entries:
            key = Path(place).relative_to(base).as_posix()
            shown = f"{shown_base}/{key}" if shown_base else key
            size = Path(place).stat().st_size if Path(place).is_file() else 0
            reader = force or _reader(PurePosixPath(key), choosers, explicit)
            reason = reason or _reason(place, key, reader, seen)
            if reason or reader is None:
                yield Passed(source, shown, reason or "", size)
                continue
            seen[os.path.realpath(place)] = shown
            yield Found(source, shown, key, str(place), reader)


def _entries(path: str, downloads: Path) -> tuple[Path, str, bool, Iterator[tuple[Path, str]]]:
    """The folder that keys are relative to, its name for people, whether the word names one file, and what lies there."""
    shown = path
    if remote.is_address(path):
        local, shown = remote.fetch(path, downloads)
        entries = _walk(local) if local.is_dir() else iter([(local, "")])
        base = local if local.is_dir() else local.parent
        return base, shown, local.is_file(), entries
    there = Path(path).expanduser()
    if there.is_dir():
        return there, path.rstrip("/") or "/", False, _walk(there)
    if there.is_file():
        return there.parent, "" if there.parent == Path() else str(Path(path).parent), True, iter([(there, "")])
    if glob.has_magic(path):
        fixed = Path(*_until_magic(Path(path).expanduser()))
        matches = [Path(match) for match in sorted(glob.glob(str(there), recursive=True))]  # noqa: PTH207  # may be absolute
        if matches:
            found = (
                (place, reason) for match in matches for place, reason in (_walk(match) if match.is_dir() else [(match, "")])
            )
            return fixed, "" if fixed == Path() else str(Path(*_until_magic(Path(path)))), False, found
        raise BadInput(f"{path}: no file has such a name. Check the pattern; quote it so that danlu sees it as written.")
    raise BadInput(f"{path}: there is no such file or folder here ({Path.cwd()}). {_siblings(there)}")


def _until_magic(path: Path) -> list[str]:
    parts = []
    for part in path.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


def _siblings(path: Path) -> str:
    """The names beside a path that does not exist, as a hint."""
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    names = [entry.name for entry in sorted(path.parent.iterdir())]
    near = difflib.get_close_matches(path.name, names, n=3)
    return f"Did you mean {' or '.join(near)}?" if near else "Check its spelling, and from which folder it is meant."


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files below a folder in name order; folders of vendored or machine-made files are named once and not entered."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            if entry.name in VENDORED or entry.name.endswith(".egg-info"):
                yield Path(entry.path), "folder of vendored or machine-made files"
            elif entry.name.endswith(".run") or (Path(entry.path) / "lineage.json").is_file():
                yield Path(entry.path), "an artefact or work folder of danlu"
            else:
                yield from _walk(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path), ""
        else:
            yield Path(entry.path), "not a regular file (a link to nowhere, a link to a folder, a socket)"


def _choosers() -> Mapping[str, str]:
    """Reader by file name ending, or by whole file name."""
    table: dict[str, str] = {}
    for name in READERS.names():
        for key in (*READERS[name].extensions, *READERS[name].file_names):
            table[key] = name
    return table


def _reader(key: PurePosixPath, choosers: Mapping[str, str], explicit: bool) -> str | None:
    name = _unpacked(key.name)
    found = choosers.get(name.name) or choosers.get(name.suffix.lower())
    return found or ("txt" if explicit else None)


def _unpacked(name: str) -> PurePosixPath:
    """A file name without the ending that says how it is packed."""
    path = PurePosixPath(name)
    return PurePosixPath(path.stem) if path.suffix.lower() in _PACKED else path


def _reason(place: Path, key: str, reader: str | None, seen: Mapping[str, str]) -> str:
    """Why a file is passed over; empty when it is not."""
    if (real := os.path.realpath(place)) in seen:
        return f"the same file as {seen[real]}"
    if key.lower().endswith(_MINIFIED):
        return "minified or a lock file"
    if reader is None:
        ending = _unpacked(PurePosixPath(key).name).suffix or "a name without ending"
        return f"no reader for {ending}; --reader txt reads every file as text"
    return ""


def _default_name(path: str) -> str:
    parts = [
        part for part in PurePosixPath(path.replace("\\", "/")).parts if not glob.has_magic(part) and part not in ("/", ".", "..")
    ]
    return PurePosixPath(parts[-1]).stem if parts else "source"


def _unique(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    taken.add(found)
    return found
