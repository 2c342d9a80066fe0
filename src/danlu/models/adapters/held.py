"""A frozen base held in few bits while an adapter learns beside it, and made float again."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

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
    known = _known(model, form, codes)
    for name, layer in [*layers_of_blocks(model)]:
        if isinstance(layer, (Linear, Transposed)):
            _hold(model, name, layer, form, group, known)


def _known(model: LanguageModel, form: Form, codes: Mapping[str, Quantised] | None) -> dict[str | None, Quantised]:
    """The codes that can be taken as they are, by our names."""
    bits = 8 if form == "int8" else 4
    return {model.name_here(name): small for name, small in (codes or {}).items() if small.bits == bits and small.zeros is None}


def _hold(model: LanguageModel, name: str, layer: Linear | Transposed, form: Form, group: int,
          known: Mapping[str | None, Quantised]) -> None:  # fmt: skip
    small = known.get(f"{name}.weight") if isinstance(layer, Linear) else None
    held = SmallFrozen(small or code(layer.matrix, form, group), layer.bias)
    held.transposed = isinstance(layer, Transposed)
    model.set_submodule(name, held)
    layer.weight = None  # type: ignore[assignment]  # the float matrix goes at once


def holding(form: Form, group: int, codes: Mapping[str, Quantised] | None = None) -> Callable[[Any, str], None]:
    """For `load_model(placed=...)`: put every matrix of the blocks into codes as soon as it is read, so that the float model
    never stands in memory whole."""

    def placed(model: LanguageModel, name: str) -> None:
        layer = name.removesuffix(".weight")
        found = model.get_submodule(layer) if name.endswith(".weight") else None
        if isinstance(found, (Linear, Transposed)) and layer.startswith(tuple(f"{block}." for block, _ in blocks(model))):
            _hold(model, layer, found, form, group, _known(model, form, codes))

    return placed


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
