"""Matrices as the native kernels read them, and what their products mean.

fp32    every number as it is.
bf16    weights and what is multiplied with them rounded to bfloat16, summed in float32.
int8    8-bit weights with a scale for each group of inputs; what is multiplied with them rounded to 8 bits in the same groups.
int4    4-bit weights, the other side as for int8.
`product_plain` is the definition; `Matrix.product` must agree with it. O outputs, I inputs, M rows.
"""

import contextlib
import ctypes
import functools
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from danlu.nn.compiled import compiled
from danlu.nn.quant import Quantised, dequantised, quantise_int4, quantise_int8, quantise_rows

Format = Literal["fp32", "bf16", "int8", "int4"]
FORMATS: tuple[Format, ...] = ("fp32", "bf16", "int8", "int4")
GROUP: dict[Format, int] = {"fp32": 1, "bf16": 1, "int8": 128, "int4": 32}
"""Inputs that share a scale, where nobody said. A scale costs 16 bits: 8.125 and 4.5 bits a weight in all."""

_HERE = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-w")


class CMatrix(ctypes.Structure):
    """native.h: Matrix."""

    _fields_ = (
        ("format", ctypes.c_int64), ("outputs", ctypes.c_int64), ("inputs", ctypes.c_int64), ("group", ctypes.c_int64),
        ("zeros", ctypes.c_int64), ("data", ctypes.c_void_p), ("bias", ctypes.c_void_p),
    )  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled step; None where it cannot be had."""
    sources = [_HERE / f"{name}.c" for name in ("matmul", "attention", "step")]
    found = compiled("native step", sources, [_HERE / "native.h"], _FLAGS)
    for name in ("matrix_bytes", "row_bytes", "cell_bytes", "step_bytes", "lanes", "extras"):
        if found is not None:
            getattr(found, name).restype = ctypes.c_int64
    return found


def clib() -> ctypes.CDLL:
    """The compiled step, where it is known to be there."""
    found = library()
    assert found is not None
    return found


def instructions() -> str:
    """What the kernels were compiled for, in words."""
    lanes, extras = clib().lanes(), clib().extras()
    more = [name for bit, name in ((1, "VNNI"), (2, "BF16")) if extras & bit]
    return " ".join([f"{32 * lanes}-bit vectors", *more])


@dataclass
class Matrix:
    """A packed matrix. What it was made from may be dropped."""

    form: Format
    c: CMatrix
    data: np.ndarray
    bias: np.ndarray | None

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def copy(self) -> "Matrix":
        """The same in memory of its own."""
        data, c = aligned(self.nbytes), CMatrix.from_buffer_copy(self.c)
        data[:] = self.data
        c.data = data.ctypes.data
        return Matrix(self.form, c, data, self.bias)

    def product(self, x_MI: Tensor, threads: int = 1) -> Tensor:
        """x (M, I) float32 to (M, O), the bias added."""
        x_MI = x_MI.contiguous()
        y_MO = x_MI.new_empty(len(x_MI), self.c.outputs)
        rows = np.empty(len(x_MI) * clib().row_bytes(ctypes.byref(self.c)), np.uint8)
        clib().product(ctypes.byref(self.c), address(x_MI), ctypes.c_int64(len(x_MI)), address(rows), address(y_MO),
                       ctypes.c_int64(threads))  # fmt: skip
        return y_MO

    def row(self, output: int) -> Tensor:
        """One output's weights, (I,), as they are meant."""
        x_I = torch.empty(self.c.inputs)
        clib().unpack_row(ctypes.byref(self.c), ctypes.c_int64(output), address(x_I))
        return x_I


def rounded(weight_OI: Tensor, form: Format, group: int | None = None) -> Tensor | Quantised:
    """A weight as a format keeps it."""
    match form:
        case "fp32":
            return weight_OI.float()
        case "bf16":
            return weight_OI.bfloat16()
        case "int8":
            return quantise_int8(weight_OI, group or GROUP[form])
        case "int4":
            return quantise_int4(weight_OI, group or GROUP[form])


def pack(weight: Tensor | Quantised, bias_O: Tensor | None = None) -> Matrix:
    """Lay a rounded weight out for the kernels."""
    c, dense = CMatrix(), isinstance(weight, Tensor)
    outputs, inputs = (weight if dense else weight.codes).shape  # type: ignore[union-attr]
    c.outputs, c.inputs, c.group = outputs, inputs, 1
    if isinstance(weight, Quantised):
        form: Format = "int8" if weight.bits == 8 else "int4"
        weight = _regrouped(weight)
        c.group, c.zeros = weight.group, weight.zeros is not None
    else:
        form = "bf16" if weight.dtype == torch.bfloat16 else "fp32"
    c.format = FORMATS.index(form)
    data = aligned(clib().matrix_bytes(ctypes.byref(c)))
    if isinstance(weight, Quantised):
        zeros = None if weight.zeros is None else weight.zeros.contiguous()
        clib().pack_codes(ctypes.byref(c), address(weight.codes.contiguous()), address(weight.scales.contiguous()),
                          address(zeros), address(data))  # fmt: skip
    else:
        wide = weight.detach().float().contiguous()
        getattr(clib(), f"pack_{form}")(ctypes.byref(c), address(wide), address(data))
    bias = None if bias_O is None else bias_O.detach().float().numpy().copy()
    c.data, c.bias = data.ctypes.data, None if bias is None else bias.ctypes.data
    return Matrix(form, c, data, bias)


def _regrouped(weight: Quantised) -> Quantised:
    """The same values in groups that the kernels take: one scale for many inputs is given to each 128 of them."""
    inputs = weight.codes.size(1)
    if weight.group % 32 == 0 and weight.group <= 256:
        return weight
    if weight.group < inputs:
        raise ValueError(f"groups of {weight.group} inputs: the native kernels take 32, 64, 96, ... 256, or whole rows")
    times = -(-inputs // 128)
    zeros = None if weight.zeros is None else weight.zeros.repeat_interleave(times, 1)
    return Quantised(weight.codes, weight.scales.repeat_interleave(times, 1), zeros, weight.bits, 128)


def product_plain(x_MI: Tensor, weight: Tensor | Quantised, bias_O: Tensor | None = None) -> Tensor:
    """The definition of a product with a rounded weight, float32 (M, O)."""
    if isinstance(weight, Quantised):
        weight = _regrouped(weight)
        codes_MI, scales_MG = quantise_rows(x_MI, weight.group)
        x_MI = codes_MI * scales_MG.repeat_interleave(weight.group, 1)[:, : x_MI.size(1)]
        weight = dequantised(weight)
    elif weight.dtype == torch.bfloat16:
        x_MI = x_MI.bfloat16()
    y_MO = (x_MI.double() @ weight.double().mT).float()
    return y_MO if bias_O is None else y_MO + bias_O


def aligned(nbytes: int) -> np.ndarray:
    """Bytes, zero at first, that begin at a line of the cache; large ones in a mapping of their own, given back when dropped."""
    if nbytes < 1 << 20:
        raw = np.zeros(nbytes + 128, np.uint8)
        at = -raw.ctypes.data % 128
        return raw[at : at + nbytes]
    pages = mmap.mmap(-1, nbytes)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def give_back() -> None:
    """Return freed memory to the system, where the C library can: it keeps what was freed in small parts."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def address(part: Tensor | np.ndarray | None) -> ctypes.c_void_p:
    """Where the values of a contiguous tensor or array lie."""
    if part is None:
        return ctypes.c_void_p(None)
    if isinstance(part, Tensor):
        assert part.is_contiguous()
        return ctypes.c_void_p(part.data_ptr())
    assert part.flags.c_contiguous
    return ctypes.c_void_p(part.ctypes.data)
