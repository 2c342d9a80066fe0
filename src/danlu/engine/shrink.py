"""A model whose weights are read in 16, 8 or 4 bits, beside the original, which stays as it is.

In 16 bits (bfloat16) all parameters are; in 8 and 4 the matrices alone, and everything else is shared with the original.
Leaves out stacks of experts and layers whose sizes torch's kernels cannot take: in 8 and 4 bits they stay as they are. The head
is in 8 bits in either case: it decides between tokens that may be close, and is one matrix of many.
"""

import copy
from collections.abc import Mapping
from typing import Literal, TypeVar

from torch import Tensor, nn

from danlu.models.base import LanguageModel
from danlu.nn.linear import Linear, Transposed
from danlu.nn.quant import Quantised, quantise_int4, quantise_int8
from danlu.nn.small_linear import SmallLinear, unfit

M = TypeVar("M", bound=LanguageModel)
Form = Literal["bf16", "int8", "int4"]


def shrunk(model: M, form: Form, group: int = 32, codes: Mapping[str, Quantised] | None = None) -> M:
    """codes: matrices that a folder holds in few bits already, by their names on disk; they are taken as they are."""
    same: dict[int, object] = {id(part): part for part in (*model.parameters(), *model.buffers())}
    if form == "bf16":
        halves = {id(part): nn.Parameter(part.detach().bfloat16(), requires_grad=False) for part in model.parameters()}
        return copy.deepcopy(model, {**same, **halves})
    small = copy.deepcopy(model, same)  # new modules around the same tensors
    known = {model.name_here(name): code for name, code in (codes or {}).items()}
    for name, layer in [*small.named_modules()]:
        if isinstance(layer, (Linear, Transposed)) and layer.weight is not model.output_weight:
            code = known.get(f"{name}.weight")
            if code is None or unfit(code):
                code = _code(layer.weight if isinstance(layer, Linear) else layer.weight.t(), form, group)
            if unfit(code) is None:
                _put(small, name, SmallLinear(code, layer.bias))
    head = _code(model.output_weight, "int8", group)
    if unfit(head) is None:
        small.small_product = SmallLinear(head).forward
    return small


def _code(weight_OI: Tensor, form: Form, group: int) -> Quantised:
    weight_OI = weight_OI.detach().contiguous()
    return quantise_int8(weight_OI) if form == "int8" else quantise_int4(weight_OI, group)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)
