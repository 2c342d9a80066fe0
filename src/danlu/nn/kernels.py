"""Fused passes on the processor: kernels.c and scans.c, compiled once for this machine in about a second.

Where there is no C compiler, or a tensor lives elsewhere, callers take their plain twin: same results, more visits of the
memory. DANLU_KERNELS=0 switches the compiled ones off.
"""

import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from danlu.core import log, machine

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.c", "scans.c"))
_HEADER = Path(__file__).with_name("kernels.h")
_FLAGS = (
    "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math", "-freciprocal-math",
)  # fmt: skip
_TYPES = {torch.float32: (), torch.bfloat16: ("-DBF16",)}


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled kernels for activations of `dtype`; None where they cannot be had."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if dtype not in _TYPES or compiler is None or os.environ.get("DANLU_KERNELS") == "0" or platform.system() != "Linux":
        return None
    flags = (*_FLAGS, *_TYPES[dtype])
    text = b"".join(path.read_bytes() for path in (_HEADER, *_SOURCES))
    text += repr((compiler, flags, machine.describe()["processor"], platform.machine())).encode()
    path = _cache_folder() / f"kernels-{sha256(text).hexdigest()[:16]}.so"
    try:
        if not path.exists():
            _compile(compiler, flags, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        log.warn(f"the fused kernels could not be compiled ({' '.join([compiler, *last])}); plain ones do the same, slower")
        return None


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "danlu"


def _compile(compiler: str, flags: tuple[str, ...], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        subprocess.run(
            [compiler, *flags, *map(str, _SOURCES), "-o", str(made), "-lm"], check=True, capture_output=True, timeout=60
        )
        made.replace(path)


def usable(dtype: torch.dtype, *tensors: Tensor) -> bool:
    """Whether the kernels can serve these: plain processor tensors, outside a compiler's trace."""
    if torch.compiler.is_compiling() or any(type(part) not in _PLAIN or part.device.type != "cpu" for part in tensors):
        return False
    return library(dtype) is not None


_PLAIN = (Tensor, torch.nn.Parameter)


def call(name: str, dtype: torch.dtype, *arguments: Tensor | float | int | None) -> None:
    """Run one kernel. Tensors must be contiguous; integers are sizes; the number of threads is torch's."""
    found = library(dtype)
    assert found is not None
    words = [_word(argument) for argument in arguments]
    getattr(found, name)(*words, ctypes.c_int(torch.get_num_threads()))


def _word(argument: Tensor | float | int | None) -> object:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    if argument is None:
        return ctypes.c_void_p(None)
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument)
