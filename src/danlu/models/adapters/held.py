"""A frozen base held in few bits while an adapter learns beside it, and made float again."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from danlu.models.base import LanguageModel
from danlu.models.plan import blocks
from danlu.nn.linear import Linear, Transposed
from danlu.nn.quant import Quantised
from danlu.nn.small_frozen import Form, SmallFrozen, code

Layer = Linear | Transposed | SmallFrozen


def layers_of_blocks(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Every matrix with its layer's name in the model's blocks, in order."""
    names = tuple(f"{name}." for name, _ in blocks(model))
    for name, layer in model.named_modules():
        if name.startswith(names) and isinstance(layer, (Linear, Transposed, SmallFrozen)):
            yield name, layer


def hold_small(model: LanguageModel, form: Form, group: int, codes: Mapping[str, Quantised] | None = None) -> None:
    """Put every matrix of the blocks into codes, in place. codes: those that the folder holds, by names on disk."""
    bits = 8 if form == "int8" else 4
    known = {model.name_here(name): small for name, small in (codes or {}).items() if small.bits == bits and small.zeros is None}
    for name, layer in [*layers_of_blocks(model)]:
        if isinstance(layer, (Linear, Transposed)):
            small = known.get(f"{name}.weight") if isinstance(layer, Linear) else None
            held = SmallFrozen(small or code(layer.matrix, form, group), layer.bias)
            held.transposed = isinstance(layer, Transposed)
            model.set_submodule(name, held)
            layer.weight = None  # type: ignore[assignment]  # the float matrix goes at once


def widen(model: LanguageModel) -> bool:
    """Every matrix in codes as the float matrix that they mean, in place. Whether there were any."""
    found = [(name, layer) for name, layer in layers_of_blocks(model) if isinstance(layer, SmallFrozen)]
    for name, layer in found:
        outputs, inputs = layer.shape
        with torch.device("meta"):
            wide: Linear | Transposed = Transposed(inputs, outputs) if layer.transposed else Linear(inputs, outputs)
        wide.weight = nn.Parameter((layer.matrix.t() if layer.transposed else layer.matrix).contiguous(), requires_grad=False)
        wide.bias = layer.bias  # type: ignore[assignment]
        model.set_submodule(name, wide)
        if layer.added is not None:
            wide.__dict__["added"] = layer.added
    return bool(found)
