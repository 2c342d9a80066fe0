"""Low-rank adapters by request (LoRA, Hu et al. 2021, arXiv:2106.09685): many users' small changes beside one base, in one step.

A folder as PEFT writes it: adapter_config.json and adapter_model.safetensors. A matrix W of the base answers W x + scale B (A x)
to the tokens whose sequence uses the adapter, scale = alpha / r. Refused by name is whatever else such a folder may ask for:
other kinds of adapters, whole modules, biases, weight decomposition (DoRA), first values that changed the base.
R channels of an adapter, I inputs, O outputs, N tokens of a step.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danlu.core.errors import DamagedWeights, UnsupportedModel
from danlu.models.adapters import lora, peft
from danlu.models.base import LanguageModel
from danlu.nn.latent_attention import LatentAttention
from danlu.nn.linear import Linear, Transposed

_READ = {"r", "lora_alpha", "lora_dropout", "target_modules", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "use_rslora"}

Matrices = tuple[np.ndarray, np.ndarray, float]
"""A (R, I) and B (O, R), float32, and the scale."""


@dataclass(frozen=True)
class Adapter:
    """What a folder holds, by the names of the base's modules on disk."""

    path: Path
    modules: dict[str, Matrices]

    @property
    def bytes(self) -> int:
        """Memory of the matrices."""
        return sum(a.nbytes + b.nbytes for a, b, _ in self.modules.values())


def read_adapter(folder: Path | str) -> Adapter:
    """An adapter as PEFT saves it. Raises NotAnArtifact, UnsupportedModel (naming what is not computed) or DamagedWeights."""
    folder = Path(folder)
    config = peft.read_config(folder)
    if wrong := list(_wrong(config)):
        raise UnsupportedModel("\n  ".join([
            f"{folder}: {peft.CONFIG} asks for what is not computed here for each request:", *wrong,
            f"Open it with its base (danlu serve {folder}), or merge the two: danlu merge {folder} -o MODEL.",
        ]))  # fmt: skip
    pairs = _pairs(folder)
    return Adapter(folder, {name: (a, b, _scale(config, name, a, folder)) for name, (a, b) in pairs.items()})


def _wrong(config: dict[str, Any]) -> Iterator[str]:
    if config.get("peft_type") != "LORA":
        yield f"peft_type: {config.get('peft_type')!r} (computed here: 'LORA')"
        return
    for field in ("r", "lora_alpha"):
        if isinstance(config.get(field), bool) or not isinstance(config.get(field), (int, float)) or config[field] <= 0:
            yield f"{field}: {config.get(field)!r} (a number above 0)"
    for field, value in sorted(config.items()):
        if field not in _READ | peft.HARMLESS | lora.HARMLESS and value and value not in lora.NOTHING.get(field, ()):
            yield f"{field}: {value!r}"


def _pairs(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A and B of every module."""
    tensors = peft.read_tensors(folder)
    if wrong := [f"{name}: {list(tensor.shape)}" for name, tensor in tensors.items() if not _half(name) or tensor.dim() != 2]:
        raise UnsupportedModel("\n  ".join([f"{folder / peft.WEIGHTS}: tensors that are no A or B of a matrix:", *wrong]))
    return {
        name: (tensors[f"{name}.lora_A.weight"].numpy(), tensors[f"{name}.lora_B.weight"].numpy())
        for name in lora.modules(folder, tensors)
    }


def _half(name: str) -> bool:
    return name.endswith((".lora_A.weight", ".lora_B.weight"))


def _scale(config: dict[str, Any], name: str, a_RI: np.ndarray, folder: Path) -> float:
    alpha, rank = (lora.said_for(config, name, *fields) for fields in (("alpha_pattern", "lora_alpha"), ("rank_pattern", "r")))
    if rank != len(a_RI):
        raise DamagedWeights(
            f"{folder}: {name} has {len(a_RI)} channels, but {peft.CONFIG} says {rank:g}. Copy the adapter again."
        )
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def places(adapter: Adapter, model: LanguageModel) -> dict[str, Matrices]:
    """The matrices by the names of the model's own modules. Raises UnsupportedModel for those that have no such place here."""
    modules, found, wrong = dict(model.named_modules()), {}, []
    for name, (a_RI, b_OR, scale) in adapter.modules.items():
        own = (model.name_here(f"{name}.weight") or "").removesuffix(".weight")
        layer = modules.get(own)
        if not isinstance(layer, (Linear, Transposed)) or layer.weight is model.output_weight:
            wrong.append(f"{name}: no layer of {model.config.name} that takes an adapter")
            continue
        if own.endswith("kv_b_proj") and isinstance(modules[own.rpartition(".")[0]], LatentAttention):
            wrong.append(f"{name}: it reads what tokens of many requests have left, so no request can change it for itself")
            continue
        outputs, inputs = layer.weight.shape if isinstance(layer, Linear) else layer.weight.shape[::-1]
        if (b_OR.shape[0], a_RI.shape[1]) != (outputs, inputs):
            wrong.append(
                f"{name}: made for {a_RI.shape[1]} inputs and {len(b_OR)} outputs, but the layer has {inputs} and {outputs}"
            )
        found[own] = (a_RI, b_OR, scale)
    if wrong:
        raise UnsupportedModel(
            "\n  ".join([f"{adapter.path} does not fit the model:", *wrong, "Was it trained on another base?"])
        )
    return found


class Adapters:
    """Adapters beside one model, of which each token of a step may use one.

    running: the modules that compute, by the same names, where they are not the model's own (shrink.py).
    """

    def __init__(self, model: LanguageModel, adapters: Mapping[str, Adapter], running: nn.Module | None = None):
        self._modules: dict[str, nn.Module] = dict((running or model).named_modules())
        self._held: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        for name, adapter in adapters.items():
            self._held[name] = {
                own: (torch.from_numpy(a).to(model.device), torch.from_numpy(b * np.float32(scale)).to(model.device))
                for own, (a, b, scale) in places(adapter, model).items()
            }

    @property
    def names(self) -> tuple[str, ...]:
        """Those that may be asked for."""
        return tuple(self._held)

    @contextlib.contextmanager
    def applied(self, rows: Mapping[str, Tensor]) -> Iterator[None]:
        """Within, the model's layers answer the given tokens of a row (1, N, ...) with their adapters; others as ever."""
        adding: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        for name, rows_N in rows.items():
            for own, (a_RI, b_OR) in self._held[name].items():
                adding.setdefault(own, []).append((rows_N, a_RI, b_OR))
        try:
            for own, parts in adding.items():
                self._modules[own].added = _Added(parts)  # type: ignore[assignment]
            yield
        finally:
            for own in adding:
                self._modules[own].added = None  # type: ignore[assignment]


@dataclass(frozen=True)
class _Added:
    """What the adapters of a step add to one layer's product."""

    parts: Sequence[tuple[Tensor, Tensor, Tensor]]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        x_NI, y_NO = x.flatten(0, -2), y.flatten(0, -2)
        for rows_N, a_RI, b_OR in self.parts:
            more_NO = (x_NI[rows_N].float() @ a_RI.t()) @ b_OR.t()
            y_NO[rows_N] = (y_NO[rows_N] + more_NO).to(y.dtype)
        return y_NO.view(y.shape)
