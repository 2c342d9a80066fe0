"""C compiled on first use for the machine at hand, in about a second, and kept in the user's cache folder.

Callers have a plain twin for where there is no compiler; DANLU_KERNELS=0 says not to look for one.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from danlu.core import log, machine


def compiled(name: str, sources: Sequence[Path], headers: Sequence[Path], flags: Sequence[str]) -> ctypes.CDLL | None:
    """The shared library of these sources; None where it cannot be had, with a warning where a compiler was at hand."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or os.environ.get("DANLU_KERNELS") == "0" or platform.system() != "Linux":
        return None
    text = b"".join(path.read_bytes() for path in (*headers, *sources))
    text += repr((compiler, tuple(flags), machine.describe()["processor"], platform.machine())).encode()
    path = _cache_folder() / f"{name.replace(' ', '-')}-{sha256(text).hexdigest()[:16]}.so"
    try:
        if not path.exists():
            _compile(compiler, sources, flags, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        log.warn(f"the {name} could not be compiled ({' '.join([compiler, *last])}); plain ones do the same, slower")
        return None


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "danlu"


def _compile(compiler: str, sources: Sequence[Path], flags: Sequence[str], path: Path) -> None:
    """All sources at once, then one library of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, ThreadPoolExecutor() as pool:
        made = Path(folder) / path.name
        parts = [Path(folder) / f"{number}.o" for number in range(len(sources))]
        commands = [[compiler, *flags, "-c", str(source), "-o", str(part)] for source, part in zip(sources, parts, strict=True)]
        list(pool.map(_run, commands))
        _run([compiler, *flags, *map(str, parts), "-o", str(made), "-lm"])
        made.replace(path)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120)
