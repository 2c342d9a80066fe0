"""Write a model with its linear layers in small integers, and all else in 16 bits, as compressed-tensors lays it out.

Vectors (norms, biases) stay as they are: they are few, and what they scale is everything. The matrix that makes the logits
stays whole too, as other programs expect of this layout.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danlu.core.errors import UnsupportedModel
from danlu.models import packed
from danlu.models.base import LanguageModel
from danlu.models.weights import save_tensors, tensors_on_disk
from danlu.nn.linear import Linear
from danlu.nn.quant import Quantised

_NARROWEST = 16  # inputs; what is narrower is small, and a scale for so few is dear


def write(model: LanguageModel, folder: Path, quantise: Callable[[Tensor], Quantised], group: int | None) -> dict[str, Any]:
    """Pack every linear layer whose inputs `group` divides (None: a whole row has one scale).

    Raises UnsupportedModel for a model without linear layers that stand alone.
    """
    tensors = tensors_on_disk(model)
    head = model.output_weight
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, Linear)]
    linear = [f"{name}.weight" for name, part in parts if part.weight is not head]
    wide = {name: tensors[name].size(1) for name in linear if name in tensors and tensors[name].size(1) >= _NARROWEST}
    chosen = [name for name, inputs in wide.items() if inputs % (group or 1) == 0]
    if not chosen:
        raise UnsupportedModel(_refusal(model.config.name, sorted(set(wide.values())), group))
    written: dict[str, Tensor] = {}
    codes = bits = 0.0
    for name, tensor in tensors.items():
        if name in chosen:
            small = quantise(tensor)
            codes, bits = codes + tensor.numel(), bits + small.bits_per_weight * tensor.numel()
            written |= packed.packed(small, name)
        else:
            written[name] = tensor.bfloat16() if tensor.is_floating_point() and tensor.dim() > 1 else tensor
    whole = [name for name, tensor in tensors.items() if tensor.dim() > 1 and name not in chosen]
    left = {"lm_head", *(name.removesuffix(".weight") for name in whole)}
    config = {**model.config.to_hf(), "dtype": "float32", packed.KEY: packed.scheme(small.bits, group, left)}
    save_tensors(written, config, folder)
    return {"packed": len(chosen), "packed_weights": int(codes), "bits_per_packed_weight": bits / codes,
            "whole": sorted(whole), "whole_weights": sum(tensors[name].numel() for name in whole)}  # fmt: skip


def _refusal(family: str, inputs: list[int], group: int | None) -> str:
    if not inputs:
        return (
            f"the matrices of the family {family} do not stand as linear layers of their own on disk, which the layout for small "
            f"integers needs. Use --method.name bf16, which halves any model."
        )
    fitting = [size for size in (128, 64, 32, 16) if any(wide % size == 0 for wide in inputs)]
    known = f"--method.group {' or '.join(map(str, fitting))} does" if fitting else "--method.name int8 needs no groups"
    return f"groups of {group} divide the inputs of no layer ({', '.join(map(str, inputs))}); {known}."


def halve(model: LanguageModel, folder: Path) -> dict[str, Any]:
    """Everything in bfloat16."""
    tensors = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in tensors_on_disk(model).items()
    }
    save_tensors(tensors, {**model.config.to_hf(), "dtype": str(torch.bfloat16).removeprefix("torch.")}, folder)
    return {"packed": 0, "packed_weights": 0, "whole": [],
            "whole_weights": sum(tensor.numel() for tensor in tensors.values())}  # fmt: skip
