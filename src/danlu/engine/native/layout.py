"""A model of the Llama lineage described to C: native.h's structs, filled from torch modules, one tensor after another."""

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from danlu.engine.adapters import Matrices
from danlu.engine.native.matrix import CMatrix, Format, Matrix, address, aligned, clib, give_back, pack, rounded
from danlu.models.base import CausalLM
from danlu.nn.geglu import GEGLU
from danlu.nn.quant import Quantised
from danlu.nn.rope import turns_by
from danlu.nn.rope_scaling import scaled

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma")
CACHES = ("fp32", "bf16", "int8")
BLOCK_TOKENS = 16
"""native.h: BLOCK."""
_LORAS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_i, _f, _p = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class CLayer(ctypes.Structure):
    """native.h: Layer."""

    _fields_ = (
        *((name, CMatrix) for name in ("qkv", "out", "gate_up", "down")),
        *((name, _p) for name in ("norm", "norm_mlp", "norm_q", "norm_k", "cosine", "sine")),
        ("window", _i),
    )


class CModel(ctypes.Structure):
    """native.h: Model."""

    _fields_ = (
        *((name, _i) for name in ("layers", "width", "heads", "groups", "head", "half", "inner", "gelu", "context")),
        *((name, _f) for name in ("eps", "scale", "embed_scale", "pad")),
        ("embed", CMatrix), ("lm_head", CMatrix), ("norm", _p), ("layer", _p),
    )  # fmt: skip


class CMemory(ctypes.Structure):
    """native.h: Memory."""

    _fields_ = (("format", _i), ("blocks", _i), ("data", _p))


class CLora(ctypes.Structure):
    """native.h: Lora."""

    _fields_ = (("down", _p), ("up", _p), ("rank", _i), ("scale", _f), ("pad", _f))


class CPiece(ctypes.Structure):
    """native.h: Piece."""

    _fields_ = (("first", _i), ("tokens", _i), ("start", _i), ("blocks", _p), ("adapter", _p))


class CStep(ctypes.Structure):
    """native.h: Step."""

    _fields_ = (
        *((name, _i) for name in ("rows", "pieces", "wanted", "longest", "rank")),
        *((name, _p) for name in ("ids", "want", "piece", "logits", "fault", "scratch")),
    )


def unfit(model: CausalLM) -> str | None:
    """Why the native step cannot compute this model; None: it can."""
    config = model.config
    if config.name not in FAMILIES:
        return f"the native step computes {', '.join(FAMILIES)}, not {config.name}"
    if config.rope_scaling is not None and config.rope_scaling.by_length:
        return f"its rotary frequencies depend on the length of a text ({config.rope_scaling.rope_type})"
    if model.device.type != "cpu":
        return f"it lies on {model.device.type}"
    return None


class Layout:
    """A model packed for C. `keep` holds what C points to.

    release: each weight of the torch module is given up once it is packed; the module cannot be used any more.
    codes: matrices that are in few bits already, by name; they are taken as they are and not rounded a second time.
    """

    def __init__(self, model: CausalLM, form: Format, group: int | None = None, release: bool = False,
                 codes: Mapping[str, Quantised] | None = None):  # fmt: skip
        assert unfit(model) is None
        self._codes = {id(weight): codes[name] for name, weight in model.named_parameters() if name in codes} if codes else {}
        self.form, self.keep, self._release, self.nbytes = form, [], release, 0
        self._round: Callable[[Tensor], Tensor | Quantised] = lambda weight: rounded(weight, form, group)
        self._round_head = (lambda weight: rounded(weight, "int8")) if form == "int4" else self._round
        config = model.config
        self.sizes = [config.num_attention_heads, config.key_heads, config.key_heads]
        self.head_width, self.inner = config.head_width, config.intermediate_size
        self._cosine, self._sine = self._turns(config)
        layers = (CLayer * config.num_hidden_layers)()
        for index, (layer, window) in enumerate(zip(model.model.layers, config.windows, strict=True)):
            layers[index] = self._layer(layer, window)
        c = CModel(
            layers=config.num_hidden_layers, width=config.hidden_size, heads=self.sizes[0], groups=self.sizes[1],
            head=self.head_width, half=config.rotary_width // 2, inner=self.inner, context=config.context,
            gelu=isinstance(model.model.layers[0].mlp, GEGLU), eps=config.rms_norm_eps, scale=self.head_width**-0.5,
            embed_scale=getattr(model.model, "scale", 1.0), norm=self._vector(model.model.norm.gain),
            layer=ctypes.addressof(layers),
        )  # fmt: skip
        tied = model.output_weight is model.embedding
        c.lm_head = self._packed(self._round_head, [model.output_weight], [], [] if tied else [model.lm_head])
        c.embed = c.lm_head if tied else self._packed(self._round_head, [model.embedding], [], [])
        if release:
            model.model.embed_tokens.weight = nn.Parameter(torch.empty(0), requires_grad=False)
            give_back()
        self.c, self._layers = c, layers

    def _layer(self, layer: Any, window: int | None) -> CLayer:
        attention, mlp = layer.self_attn, layer.mlp
        into = [attention.qkv_proj] if hasattr(attention, "qkv_proj") else [attention.q_proj, attention.k_proj, attention.v_proj]
        up = [mlp.gate_up_proj] if hasattr(mlp, "gate_up_proj") else [mlp.gate_proj, mlp.up_proj]
        c = CLayer(window=window or 0, cosine=self._cosine, sine=self._sine)
        c.norm, c.norm_mlp = self._vector(layer.input_layernorm.gain), self._vector(layer.post_attention_layernorm.gain)
        if hasattr(attention, "q_norm"):
            c.norm_q, c.norm_k = self._vector(attention.q_norm.gain), self._vector(attention.k_norm.gain)
        c.qkv, c.out, c.gate_up, c.down = (self._linear(parts) for parts in (into, [attention.o_proj], up, [mlp.down_proj]))
        if self._release:
            give_back()
        return c

    def _linear(self, parts: list[Any]) -> CMatrix:
        biases = [part.bias for part in parts]
        return self._packed(self._round, [part.weight for part in parts], [bias for bias in biases if bias is not None], parts)

    def _packed(self, how: Any, weights: list[Tensor], biases: list[Tensor], owners: list[Any]) -> CMatrix:
        matrix: Matrix = pack(self._rounded(how, weights), torch.cat([part.detach() for part in biases]) if biases else None)
        if self._release:
            for owner in owners:
                owner.weight = nn.Parameter(torch.empty(0), requires_grad=False)
        self.keep.append(matrix)
        self.nbytes += matrix.nbytes
        return matrix.c

    def _rounded(self, how: Any, weights: list[Tensor]) -> Tensor | Quantised:
        """Weights one above another, from their codes where these are known and alike."""
        small = [self._codes[id(weight)] for weight in weights if id(weight) in self._codes]
        if len(small) == len(weights) and len({(part.bits, part.group, part.zeros is None) for part in small}) == 1:
            codes, scales = (torch.cat([getattr(part, name) for part in small]) for name in ("codes", "scales"))
            zeros = None if small[0].zeros is None else torch.cat([part.zeros for part in small])  # type: ignore[misc]
            return Quantised(codes, scales, zeros, small[0].bits, small[0].group)
        rounded: Tensor | Quantised = how(
            torch.cat([part.detach() for part in weights]) if len(weights) > 1 else weights[0].detach()
        )
        return rounded

    def _vector(self, values: Tensor) -> int:
        return self._array(values.detach().float().numpy())

    def _array(self, values: np.ndarray) -> int:
        own = np.array(values, np.float32, order="C")
        self.keep.append(own)
        return own.ctypes.data

    def _turns(self, config: Any) -> tuple[int, int]:
        trained = config.max_position_embeddings
        found = scaled(config.rope_scaling, config.rotary_width, config.rope_theta, trained, config.context)
        cosine, sine = turns_by(torch.arange(config.context), *found)
        return self._vector(cosine), self._vector(sine)

    def adapter(self, parts: dict[str, Matrices]) -> tuple[Any, int]:
        """Low-rank additions by the names of the model's modules, described to C, and the largest rank."""
        found = (CLora * (self.c.layers * len(_LORAS)))()
        most, widths = 0, [heads * self.head_width for heads in self.sizes]
        split = {"qkv_proj": (0, widths), "gate_up_proj": (4, [self.inner, self.inner])}
        for path, (down, up, scale) in parts.items():
            *_, index, _, name = path.split(".")
            first, sizes = split[name] if name in split else (_LORAS.index(name), [len(up)])
            for slot, part in enumerate(np.split(up, np.cumsum(sizes)[:-1])):
                at = int(index) * len(_LORAS) + first + slot
                found[at] = CLora(down=self._array(down), up=self._array(part.T), rank=len(down), scale=scale)
            most = max(most, len(down))
        self.keep.append(found)
        return found, most


class Memory:
    """Keys and values in blocks, in a format of CACHES."""

    def __init__(self, config: Any, blocks: int, form: str):
        self.data = aligned(blocks * block_bytes(config, form))
        self.c = CMemory(format=CACHES.index(form), blocks=blocks, data=address(self.data))


def block_bytes(config: Any, form: str) -> int:
    """Memory of one block in all layers."""
    cell = clib().cell_bytes(ctypes.c_int64(config.head_width), ctypes.c_int64(CACHES.index(form)))
    return int(config.num_hidden_layers * config.key_heads * cell)
