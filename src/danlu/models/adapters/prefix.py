"""Prefix tuning: keys and values in every layer, learned to stand before every text's own (Li & Liang 2021, arXiv:2101.00190).

Without the network that makes them from a smaller table while training: PEFT's `prefix_projection` false. P places, G key
heads, K head width, N texts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.core.seeds import derive
from danlu.models.adapters import ADAPTERS, peft
from danlu.models.adapters.base import Adapted, AdapterConfig, asked_whole, body
from danlu.models.adapters.prompt import TENSOR, virtual_tokens
from danlu.models.adapters.soft import Soft
from danlu.models.base import CausalLM
from danlu.nn.state import LayerState, State

_SPREAD = 0.02


class Before(LayerState):
    """A layer's memory that holds a prefix and is not written to: what comes after is laid behind it."""

    def __init__(self, keys: Tensor, values: Tensor):
        self.keys, self.values = keys, values

    def append(self, length: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """The prefix and the new ones, (B, G, P + T, K)."""
        return torch.cat([self.keys, k_BGTK], 2), torch.cat([self.values, v_BGTK], 2)


@ADAPTERS.register
class Prefix(Soft):
    """`prompt_embeddings` (P, layers * 2 * G * K): of each layer the keys, then the values."""

    peft_type = "PREFIX_TUNING"

    class Config(AdapterConfig):
        """How long."""

        name: Literal["prefix"] = "prefix"
        tokens: int = Field(20, ge=1)
        """Places before every text."""

    def __init__(self, config: Config, model: Adapted, seed: int = 0):
        super().__init__(config, model)
        self.layers, self.heads, self.width = _sizes(model)
        generator = torch.Generator().manual_seed(derive(seed, "adapter", TENSOR))
        first = _SPREAD * torch.randn(config.tokens, self.layers * 2 * self.heads * self.width, generator=generator)
        self.prompt_embeddings = nn.Parameter(first)

    def pairs(self, rows: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every layer, (N, G, P, K) each."""
        found = self.prompt_embeddings.to(dtype).unflatten(1, (self.layers, 2, self.heads, self.width)).permute(1, 2, 3, 0, 4)
        return [(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in found]

    def whole(self, model: CausalLM, ids_NL: Tensor) -> Tensor:
        state = State([Before(*pair) for pair in self.pairs(len(ids_NL), model.activation_dtype)])
        state.length, state.planned = self.config.tokens, self.config.tokens + ids_NL.size(1)
        return type(model).hidden(model, ids_NL, state=state)

    def begin(self, model: CausalLM, ids_BT: Tensor, state: State) -> Tensor:
        for layer, pair in zip(state.layers, self.pairs(len(ids_BT), model.activation_dtype), strict=True):
            assert isinstance(layer, LayerState)
            layer.append(0, *pair)
        state.length = self.config.tokens
        return type(model).hidden(model, ids_BT, state=state)

    def to_peft(self, model: Adapted) -> tuple[dict[str, Any], dict[str, Tensor]]:
        width = self.heads * self.width
        fields = {
            "num_virtual_tokens": self.config.tokens, "token_dim": width, "num_attention_heads": self.heads,
            "num_layers": self.layers, "encoder_hidden_size": width, "prefix_projection": False, "num_transformer_submodules": 1,
        }  # fmt: skip
        return fields, {TENSOR: self.prompt_embeddings.detach()}

    @classmethod
    def from_peft(cls, folder: Path, found: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Adapted) -> AdapterConfig:
        return cls.Config(whole=asked_whole(model, found), tokens=virtual_tokens(folder, found, tensors, {}))

    def fill(self, tensors: Mapping[str, Tensor], model: Adapted) -> set[str]:
        peft.check_shape(Path(body(model).config.name), TENSOR, tensors[TENSOR], self.prompt_embeddings.shape)
        self.prompt_embeddings.copy_(tensors[TENSOR])
        return {TENSOR}


def _sizes(model: Adapted) -> tuple[int, int, int]:
    """Layers, key heads and head width."""
    layers: list[Any] = body(model).new_state(1, 1).layers  # type: ignore[operator]  # Soft has checked that it writes
    return len(layers), layers[0].keys.size(1), layers[0].keys.size(3)
