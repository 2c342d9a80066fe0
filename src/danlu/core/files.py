"""Files that appear whole or not at all: written aside, fsynced, renamed."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from danlu.core.errors import NoSpace

_BLOCK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into NoSpace, saying how much room there is and what stays safe."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoSpace(
            f"cannot write {path}: {error.strerror} ({free_bytes(path) / 1e9:.2f} GB free there). What was complete before "
            f"is untouched. Free some space or allow writing, then run the same command again."
        ) from error


@contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO]:
    """Open a file for writing that replaces `path` only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with writing(path), os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
        sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole or not at all."""
    with atomic(path) as file:
        file.write(text)


def sync_folder(path: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def share_tree(folder: Path) -> None:
    """Give every file below `folder` the permissions a new file has here; some writers make theirs private."""
    mode = 0o666 & ~_umask()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below `folder`."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        else:
            sync_folder(path)
    sync_folder(folder)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def free_bytes(path: Path) -> int:
    """Bytes free where `path` is or would be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def need_bytes(path: Path, wanted: int, purpose: str) -> None:
    """Raise NoSpace before the work starts when `purpose` cannot fit."""
    free = free_bytes(path)
    if free < wanted:
        raise NoSpace(
            f"{purpose} needs about {wanted / 1e9:.2f} GB at {path}, but {free / 1e9:.2f} GB is free. "
            f"Nothing was written. Free some space or choose another --out."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
