"""Bamba (IBM, Princeton, CMU and UIUC 2024, on Mamba-2, arXiv:2405.21060): a hybrid, Mamba-2 with a few layers of attention.

Every layer is Llama's block with a feed-forward part; most mix tokens by Mamba-2's scan in constant memory, the few that
`attn_layer_indices` names by attention, which alone looks up a token exactly. Its heads turn half of their channels. The memory
of a text is mixed likewise: a state for each scan, keys and values for each attention. B rows, T tokens, D width.
"""

import math
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.decoder import Decoder, DecoderConfig, swiglu
from danlu.models.mamba2 import limits, written_limits
from danlu.nn.linear import Embedding
from danlu.nn.mamba2 import Mamba2Mixer, MixerSizes, first_values
from danlu.nn.mask import Sight
from danlu.nn.norm import RMSNorm
from danlu.nn.self_attention import SelfAttention
from danlu.nn.state import LayerState, Memory, State

_TURNED = 0.5
"""Share of a head's channels that carry positions; config.json repeats it and transformers takes no other."""
_STEPS = (0.001, 0.1, 1e-4)
"""Shortest and longest time step at the start, and what they are raised to."""


class Block(nn.Module):
    """Pre-norm layer, (B, T, D) -> (B, T, D), by a scan or by attention."""

    def __init__(self, config: "Bamba.Config", attends: bool):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        if attends:
            self.self_attn = SelfAttention(
                config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width,
                in_bias=config.attention_bias, out_bias=config.attention_bias,
            )  # fmt: skip
        else:
            self.mamba = Mamba2Mixer(config.mixer)
        self.pre_ff_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.feed_forward = swiglu(config, config.mlp_bias)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], sight: Sight, state: Any = None) -> Tensor:
        if hasattr(self, "mamba"):
            x = x + self.mamba(x, self.input_layernorm, sight, state)
        else:
            x = x + self.self_attn(x, self.input_layernorm, rope, sight, state)
        return x + self.feed_forward(x, self.pre_ff_layernorm)


class Trunk(nn.Module):
    """All but the head, under the names that checkpoints use."""

    def __init__(self, config: "Bamba.Config"):
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        attends = set(config.attn_layer_indices)
        self.layers = nn.ModuleList([Block(config, index in attends) for index in range(config.num_hidden_layers)])
        self.final_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """What the first layer reads, (B, T, D)."""
        return self.embed_tokens(ids_BT)

    def norm(self, x: Tensor) -> Tensor:
        """What follows the last layer."""
        return self.final_layernorm(x)


@MODELS.register
class Bamba(Decoder):
    """Loads and writes BambaForCausalLM folders."""

    one_way = True
    long_rows = False

    class Config(DecoderConfig):
        hf_type: ClassVar[str] = "bamba"
        hf_class: ClassVar[str] = "BambaForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            "tie_word_embeddings": False, "num_key_value_heads": 8, "max_position_embeddings": 262144, "rms_norm_eps": 1e-5,
            "mamba_n_heads": 128, "mamba_d_state": 256, "attn_layer_indices": (),
        }  # fmt: skip
        harmless: ClassVar[tuple[str, ...]] = ("z_loss_coefficient", "num_logits_to_keep", "layers_block_type", "layer_types")

        name: Literal["bamba"] = "bamba"  # type: ignore[assignment]  # narrows
        rope_scaling: None = None  # type: ignore[assignment]  # narrows
        """This family has none."""
        attn_layer_indices: tuple[int, ...] = (3,)
        """Layers that attend, counted from 0; all others scan."""
        mamba_n_heads: int | None = Field(None, gt=0)
        """Heads of a scan, mamba_expand * hidden_size / mamba_d_head of them; null: of 64 channels each, or fewer."""
        mamba_d_head: int | Literal["auto"] = "auto"
        """Channels of a head of a scan; auto: what the number of heads leaves."""
        mamba_n_groups: int = Field(1, gt=0)
        """Groups of heads that share what is written and read, a divisor of the heads."""
        mamba_d_state: int = Field(64, gt=0)
        """Numbers that a channel remembers."""
        mamba_d_conv: int = Field(4, ge=2)
        """Tokens that the convolution sees."""
        mamba_expand: int = Field(2, gt=0)
        """Channels inside a scan, in widths of the stream."""
        mamba_chunk_size: int = Field(256, gt=0)
        """Most tokens that the scan takes at once; changes speed and rounding alone."""
        mamba_conv_bias: bool = True
        """Bias in the convolution."""
        mamba_proj_bias: bool = False
        """Biases in the projections into and out of a scan."""
        time_step_limit: tuple[float, float] = (0.0, math.inf)
        """Time steps are kept between these two."""
        mlp_bias: bool = False
        """Biases in the feed-forward layer."""

        @field_validator("time_step_limit", mode="before")
        @classmethod
        def _written_out(cls, value: Any) -> Any:
            return limits(value)

        @model_validator(mode="after")
        def _mixes(self) -> Self:
            inner = self.mamba_expand * self.hidden_size
            if self.scan_heads * self.scan_head_width != inner:
                raise ValueError(
                    f"mamba_expand * hidden_size = {inner} channels are not mamba_n_heads * mamba_d_head = "
                    f"{self.scan_heads} * {self.scan_head_width}"
                )
            if self.scan_heads % self.mamba_n_groups:
                raise ValueError(f"{self.scan_heads} heads do not divide among {self.mamba_n_groups} groups")
            if beyond := [index for index in self.attn_layer_indices if not 0 <= index < self.num_hidden_layers]:
                raise ValueError(f"attn_layer_indices names layers {beyond}, but there are {self.num_hidden_layers}, from 0")
            return self

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """About one layer in six attends, never the first of many."""
            chosen = super().sized(width=width, inner=inner, layers=layers, heads=heads, context=context)
            return {**chosen, "attn_layer_indices": tuple(range(3, layers, 6)) or (layers // 2,)}

        @classmethod
        def read_rope(cls, found: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
            """The share of turned channels stands in the rotary settings, or beside them."""
            wrong = []
            for place in (found, *(found[field] for field in ("rope_parameters", "rope_scaling") if found.get(field))):
                if (share := place.get("partial_rotary_factor", _TURNED)) != _TURNED:
                    wrong.append(f"partial_rotary_factor: {share} (computed here: {_TURNED})")
            kept = {key: value for key, value in found.items() if key != "partial_rotary_factor"}
            for field in ("rope_parameters", "rope_scaling"):
                if kept.get(field):
                    kept[field] = {key: value for key, value in kept[field].items() if key != "partial_rotary_factor"}
            read, more = super().read_rope(kept)
            if read.get("rope_scaling") is not None:
                more.append(f"rope_scaling: {read.pop('rope_scaling')} (this family has none)")
            return read, wrong + more

        @property
        def rotary_width(self) -> int:
            return int(self.head_width * _TURNED)

        @property
        def scan_heads(self) -> int:
            """Heads of a scan, resolved."""
            inner = self.mamba_expand * self.hidden_size
            if self.mamba_n_heads:
                return self.mamba_n_heads
            return inner // (math.gcd(inner, 64) if self.mamba_d_head == "auto" else self.mamba_d_head)

        @property
        def scan_head_width(self) -> int:
            """Channels of a head of a scan, resolved."""
            inner = self.mamba_expand * self.hidden_size
            return inner // self.scan_heads if self.mamba_d_head == "auto" else self.mamba_d_head

        @property
        def mixer(self) -> MixerSizes:
            """Sizes of a layer's scan."""
            return MixerSizes(
                self.hidden_size, self.scan_heads, self.scan_head_width, self.mamba_d_state, self.mamba_n_groups,
                self.mamba_d_conv, self.mamba_conv_bias, self.mamba_proj_bias, self.rms_norm_eps, self.mamba_chunk_size,
                self.time_step_limit,
            )  # fmt: skip

        def to_hf(self) -> dict[str, Any]:
            own = written_limits(super().to_hf(), self.time_step_limit)
            rope = {**own["rope_parameters"], "partial_rotary_factor": _TURNED}
            heads = {"mamba_n_heads": self.scan_heads, "mamba_d_head": self.scan_head_width}
            return {**own, **heads, "attn_layer_indices": list(self.attn_layer_indices), "rope_parameters": rope}

    @classmethod
    def trunk(cls, config: Config) -> nn.Module:
        return Trunk(config)

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        if prefix_BT is not None:
            raise ValueError("bamba scans in one direction only: no part of a text can be seen both ways")
        return super().hidden(ids_BT, documents_BT=documents_BT, state=state)

    def first(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor | None:
        return first_values(name, parameter, generator, self.config.depth, _STEPS) if ".mamba." in name else None

    def make_state(self, kind: type[State], batch: int, capacity: int) -> State:
        """A memory of the given kind: states of the scans, keys and values of the layers that attend."""
        config, device = self.config, self.embedding.device

        def memory(layer: Block) -> Memory:
            if hasattr(layer, "mamba"):
                return layer.mamba.new_memory(batch, device)
            return LayerState(batch, config.key_heads, capacity, config.head_width, self.activation_dtype, device)

        state = kind([memory(layer) for layer in self.model.layers])
        state.planned = capacity
        return state

    def flops_per_token(self, row_tokens: int) -> float:
        """Arithmetic of one training token: 6 a matmul weight, 3 times the scans, attention as the full square."""
        config, attends = self.config, len(self.config.attn_layer_indices)
        scans = 3.0 * (config.depth - attends) * config.mixer.scan_flops()
        return 6.0 * self.matmul_parameters() + scans + 12.0 * attends * config.attention_width * row_tokens

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "attn_layer_indices": (1,),
            "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 12, "mamba_n_heads": 6, "mamba_n_groups": 2,
            "mamba_d_state": 5, "mamba_chunk_size": 4, "max_position_embeddings": 64, "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]
