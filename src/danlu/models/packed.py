"""Matrices of small integers on disk: the pack-quantized layout of compressed-tensors, which transformers and vLLM read too.

A matrix x.weight (O, I) lies as three tensors. x.weight_packed: int32 words, the codes of each row end to end from the lowest
bits up, every code raised by half its range. x.weight_scale: (O, G), one factor for each group of inputs. x.weight_shape: O, I.
config.json says how under quantization_config. Source: compressed-tensors 0.20, compressors/pack_quantized.

Leaves out codes with zero points, bits other than 4 and 8, and activations in integers: refused by name.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.core.errors import DamagedWeights, UnsupportedModel
from danlu.nn.quant import Quantised, dequantised

KEY = "quantization_config"
DTYPE = "packed"
"""What stands in place of an element type in the table of a folder's tensors."""
_ENDS = ("_packed", "_scale", "_shape")
_BITS = (4, 8)


def scheme(bits: int, group: int | None, whole: Collection[str]) -> dict[str, Any]:
    """The quantization_config of a model whose linear layers, but for those named in `whole`, are packed."""
    weights = {
        "num_bits": bits, "type": "int", "symmetric": True, "dynamic": False, "observer": "minmax",
        "strategy": "channel" if group is None else "group", "group_size": group,
    }  # fmt: skip
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None,
                                      "output_activations": None}},
        "ignore": sorted(whole), "kv_cache_scheme": None,
    }  # fmt: skip


def without(found: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """config.json without its quantization_config. Raises UnsupportedModel where that is another than `scheme` can say."""
    asked = found.get(KEY)
    if asked is None:
        return dict(found)
    wrong = list(_wrong(asked)) if isinstance(asked, Mapping) else [f"{KEY}: {asked!r}"]
    if wrong:
        raise UnsupportedModel("\n  ".join([
            f"{folder}: config.json asks under {KEY} for what is not read here:", *wrong,
            "Known: compressed-tensors, pack-quantized, symmetric integers of 4 or 8 bits. Use the model as it was before, and "
            "`danlu compress`.",
        ]))  # fmt: skip
    return {key: value for key, value in found.items() if key != KEY}


def _wrong(asked: Mapping[str, Any]) -> Any:
    for key, known in (
        ("quant_method", "compressed-tensors"),
        ("format", "pack-quantized"),
        ("quantization_status", "compressed"),
    ):
        if asked.get(key) != known:
            yield f"{key}: {asked.get(key)!r}"
    if asked.get("kv_cache_scheme"):
        yield "kv_cache_scheme: the cache in integers"
    for name, group in (asked.get("config_groups") or {}).items():
        weights = (group or {}).get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            yield f"config_groups.{name}: no weights"
            continue
        if group.get("input_activations") or group.get("output_activations"):
            yield f"config_groups.{name}: activations in integers"
        if group.get("format", "pack-quantized") not in (None, "pack-quantized"):
            yield f"config_groups.{name}.format: {group['format']!r}"
        told = (weights.get("type", "int"), weights.get("symmetric", True), weights.get("num_bits"))
        if told[0] != "int" or not told[1] or told[2] not in _BITS:
            yield f"config_groups.{name}.weights: type {told[0]}, symmetric {told[1]}, num_bits {told[2]}"
        if weights.get("strategy") not in ("channel", "group"):
            yield f"config_groups.{name}.weights.strategy: {weights.get('strategy')!r}"


def packed(small: Quantised, name: str) -> dict[str, Tensor]:
    """The tensors on disk of a symmetric matrix called `name` (it ends in `weight`)."""
    assert small.zeros is None and small.bits in _BITS
    codes_OI = (small.codes.to(torch.int16) + (1 << (small.bits - 1))).to(torch.uint8)
    codes_OI = F.pad(codes_OI, (0, -codes_OI.size(1) % (32 // small.bits)))
    if small.bits == 4:
        codes_OI = codes_OI[:, ::2] | (codes_OI[:, 1::2] << 4)
    tensors = (codes_OI.contiguous().view(torch.int32), small.scales, torch.tensor(small.codes.shape))
    return {name + end: tensor.contiguous() for end, tensor in zip(_ENDS, tensors, strict=True)}


def unpacked(words_OW: Tensor, scales_OG: Tensor, inputs: int) -> Quantised:
    """What `packed` packed; the bits follow from the width of a row. Raises ValueError where the shapes do not agree."""
    fitting = [bits for bits in _BITS if words_OW.size(1) == -(-inputs * bits // 32)]
    groups = scales_OG.size(1)
    if len(fitting) != 1 or scales_OG.size(0) != words_OW.size(0) or inputs % groups:
        raise ValueError(f"{inputs} inputs in {words_OW.size(1)} words and {groups} groups")
    (bits,) = fitting
    codes_OI = words_OW.contiguous().view(torch.uint8)
    if bits == 4:
        codes_OI = torch.stack([codes_OI & 15, codes_OI >> 4], -1).flatten(1)
    codes_OI = (codes_OI[:, :inputs].to(torch.int16) - (1 << (bits - 1))).to(torch.int8).contiguous()
    return Quantised(codes_OI, scales_OG, None, bits, inputs // groups)


def joined(on_disk: Mapping[str, dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """The table of a folder's tensors with each packed matrix as one entry under its own name.

    Raises DamagedWeights where a part of one is missing or of a type that holds no codes.
    """
    found = dict(on_disk)
    wrong = []
    for name in [name.removesuffix("_packed") for name in on_disk if name.endswith("weight_packed")]:
        parts = {end: found.pop(name + end) for end in _ENDS if name + end in found}
        words, shape = parts.get("_packed", {}), parts.get("_shape", {})
        if lost := [name + end for end in _ENDS if end not in parts]:
            wrong.append(f"{name}: packed, but {', '.join(lost)} is missing")
        elif words["dtype"] != "I32" or len(words["shape"]) != 2 or shape["dtype"] not in ("I32", "I64") or shape["shape"] != [2]:
            wrong.append(f"{name}: packed as {words['dtype']} {words['shape']}; known: I32 of two dimensions")
        else:
            found[name] = {"dtype": DTYPE, "shape": _read(shape).tolist(), "parts": parts, "path": words["path"]}
    if wrong:
        raise DamagedWeights("\n  ".join([f"{folder}: {len(wrong)} matrices cannot be unpacked; copy the model again:", *wrong]))
    return found


def read(entry: Mapping[str, Any], name: str) -> Quantised:
    """The codes and scales of an entry of `joined`. Raises DamagedWeights where its parts do not fit one another."""
    parts = entry["parts"]
    try:
        return unpacked(_read(parts["_packed"]), _read(parts["_scale"]), entry["shape"][1])
    except (ValueError, RuntimeError) as error:
        raise DamagedWeights(f"{entry['path'].parent}: {name} cannot be unpacked ({error}). Copy the model again.") from None


def values(entry: Mapping[str, Any], name: str, dtype: torch.dtype) -> Tensor:
    """The matrix that an entry of `joined` means."""
    return dequantised(read(entry, name)).to(dtype)


_TYPES = {"I32": torch.int32, "I64": torch.int64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def _read(part: Mapping[str, Any]) -> Tensor:
    if part["dtype"] not in _TYPES:
        raise ValueError(f"type {part['dtype']}")
    tensor = torch.empty(part["shape"], dtype=_TYPES[part["dtype"]])
    with open(part["path"], "rb") as file:
        file.seek(part["start"])
        file.readinto(memoryview(tensor.view(-1).view(torch.uint8).numpy()))
    return tensor
