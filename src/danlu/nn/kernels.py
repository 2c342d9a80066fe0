"""Fused passes on the processor: kernels.c, scans.c and quant.c, compiled once for this machine in about a second.

Where there is no C compiler, or a tensor lives elsewhere, callers take their plain twin: same results, more visits of the
memory. DANLU_KERNELS=0 switches the compiled ones off.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from danlu.nn.compiled import compiled

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.c", "scans.c", "quant.c"))
_HEADER = Path(__file__).with_name("kernels.h")
_FLAGS = (
    "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math", "-freciprocal-math",
)  # fmt: skip
_TYPES = {torch.float32: (), torch.bfloat16: ("-DBF16",)}


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled kernels for activations of `dtype`; None where they cannot be had."""
    return compiled("kernels", _SOURCES, [_HEADER], (*_FLAGS, *_TYPES[dtype])) if dtype in _TYPES else None


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
