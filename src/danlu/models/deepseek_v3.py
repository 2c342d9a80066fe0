"""DeepSeek-V3 (DeepSeek-AI 2024, arXiv:2412.19437): latent attention, and many narrow experts beside a shared one.

Against Qwen3's sparse block: keys and values come from one small vector a token, which is all that decoding keeps (section
2.1.1); sigmoid scores choose experts within a few groups (eq. 12-16); balance comes from a bias that training nudges after each
step instead of a loss (arXiv:2408.15664); one expert serves every token (eq. 12); the first layers are dense. Leaves out
the extra layers that predict further tokens (their weights, which follow the last layer's, are not read), the sequence-wise
balance loss (eq. 17-20) and eight-bit weights.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from danlu.models import MODELS
from danlu.models.decoder import Block, swiglu
from danlu.models.sparse import SparseConfig, SparseDecoder, pieces, share_of
from danlu.nn.experts import Experts
from danlu.nn.latent_attention import LatentAttention, LatentSizes
from danlu.nn.mlp import SwiGLU
from danlu.nn.moe import GroupedRouter, SparseMLP
from danlu.nn.rope_scaling import yarn_scale
from danlu.nn.state import LatentState, State


@MODELS.register
class DeepSeekV3(SparseDecoder):
    """Loads and writes DeepseekV3ForCausalLM folders."""

    class Config(SparseConfig):
        hf_type: ClassVar[str] = "deepseek_v3"
        hf_class: ClassVar[str] = "DeepseekV3ForCausalLM"
        required: ClassVar[tuple[str, ...]] = (*SparseConfig.required, "n_routed_experts", "kv_lora_rank", "qk_rope_head_dim")
        absent: ClassVar[dict[str, Any]] = {
            "tie_word_embeddings": False, "max_position_embeddings": 4096, "moe_intermediate_size": 2048, "q_lora_rank": 1536,
            "qk_nope_head_dim": 128, "v_head_dim": 128, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
            "routed_scaling_factor": 2.5, "first_k_dense_replace": 3,
        }  # fmt: skip
        fixed: ClassVar[dict[str, Any]] = {
            **SparseConfig.fixed, "scoring_func": ("sigmoid", None), "topk_method": ("noaux_tc", None),
            "moe_layer_freq": (1, None),
        }  # fmt: skip
        harmless: ClassVar[tuple[str, ...]] = (
            *SparseConfig.harmless, "num_nextn_predict_layers", "num_mtp_layers", "qk_head_dim", "ep_size", "aux_loss_alpha",
            "seq_aux",
        )  # fmt: skip

        name: Literal["deepseek_v3"] = "deepseek_v3"  # type: ignore[assignment]  # narrows
        q_lora_rank: int | None = Field(None, gt=0)
        """Channels that queries pass through; null: none, they are projected at once."""
        kv_lora_rank: int = Field(64, gt=0)
        """Channels of the vector that keys and values of all heads are made from: with the position, all that decoding keeps."""
        qk_nope_head_dim: int = Field(64, gt=0)
        """Channels of a query or key head that carry no position."""
        qk_rope_head_dim: int = Field(32, gt=0)
        """Channels that carry the position, even; keys share them among all heads."""
        v_head_dim: int = Field(64, gt=0)
        """Channels of a value head."""
        rope_interleave: bool = True
        """Whether positions turn neighbouring channels; otherwise halves."""
        n_routed_experts: int = Field(16, gt=0)
        """Experts of each sparse layer that tokens choose from."""
        n_shared_experts: int = Field(1, gt=0)
        """Experts' widths of the layer that serves every token."""
        num_experts_per_tok: int = Field(3, gt=0)
        """Experts that each token chooses, the shared one apart."""
        moe_intermediate_size: int = Field(176, gt=0)
        """Inner channels of one expert; intermediate_size is that of a dense layer."""
        n_group: int = Field(1, gt=0)
        """Groups of experts; a token stays within the best topk_group of them."""
        topk_group: int = Field(1, gt=0)
        """Groups that a token chooses its experts from."""
        norm_topk_prob: bool = True
        """Whether the shares of a token's experts add up to one before they are scaled."""
        routed_scaling_factor: float = Field(1.0, gt=0)
        """What those shares are multiplied by."""
        first_k_dense_replace: int = Field(1, ge=0)
        """Layers at the beginning that are dense."""
        router_aux_loss_coef: float = Field(0.0, ge=0)
        """Weight of the balance of experts in the training loss (arXiv:2101.03961, eq. 4-6); the bias balances without it."""
        router_bias_update_rate: float = Field(0.001, ge=0)
        """How far each step of training moves the bias that balances the experts, in units of a score; 0: never."""

        @model_validator(mode="after")
        def _parts_fit(self) -> Self:
            if self.key_heads != self.num_attention_heads:
                raise ValueError("latent attention makes keys for every head: num_key_value_heads must equal num_attention_heads")
            if self.head_dim not in (None, self.qk_rope_head_dim):
                raise ValueError(f"head_dim {self.head_dim} must be qk_rope_head_dim ({self.qk_rope_head_dim}) here, or left out")
            if self.n_routed_experts % self.n_group or self.topk_group > self.n_group:
                raise ValueError(
                    f"{self.n_routed_experts} experts must divide among n_group {self.n_group}, of which topk_group are chosen"
                )
            self.check_choices(self.n_routed_experts // self.n_group * self.topk_group)
            return self

        @property
        def head_width(self) -> int:
            """Channels of a head that carry the position."""
            return self.qk_rope_head_dim

        @property
        def attention_width(self) -> int:
            return self.num_attention_heads * (self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim) // 2

        @property
        def score_scale(self) -> float:
            """Scale of attention scores; YaRN's, where mscale_all_dim asks for it, counts twice."""
            scale, scaling = (self.qk_nope_head_dim + self.qk_rope_head_dim) ** -0.5, self.rope_scaling
            if scaling is None or not scaling.mscale_all_dim or scaling.factor is None:
                return scale
            return scale * yarn_scale(scaling.factor**scaling.mscale_all_dim) ** 2

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """A token's experts, the shared one among them, are together as wide as the dense layer of the budget."""
            chosen = super().sized(width=width, inner=inner, layers=layers, heads=heads, context=context)
            head = max(8, width // heads // 8 * 8)
            return {
                **chosen, "moe_intermediate_size": share_of(inner, 4), "kv_lora_rank": max(16, width // 4 // 8 * 8),
                "qk_nope_head_dim": head, "qk_rope_head_dim": head // 2, "v_head_dim": head,
                "first_k_dense_replace": min(1, layers - 1),
            }  # fmt: skip

        @classmethod
        def stored(cls, given: Mapping[str, Any]) -> float:
            return (given.get("n_routed_experts", 16) + given.get("n_shared_experts", 1)) / 4

    @staticmethod
    def layer(config: Config, index: int) -> Block:
        attention = LatentAttention(
            config.hidden_size, config.num_attention_heads,
            LatentSizes(
                query_rank=config.q_lora_rank, rank=config.kv_lora_rank, plain_width=config.qk_nope_head_dim,
                turned_width=config.qk_rope_head_dim, value_width=config.v_head_dim,
            ),
            scale=config.score_scale, paired=config.rope_interleave, bias=config.attention_bias,
        )  # fmt: skip
        if index < config.first_k_dense_replace:
            return Block(config, attention, swiglu(config))  # type: ignore[arg-type]
        router = GroupedRouter(
            config.hidden_size, config.n_routed_experts, config.num_experts_per_tok, config.norm_topk_prob,
            groups=config.n_group, chosen_groups=config.topk_group, scale=config.routed_scaling_factor,
        )  # fmt: skip
        experts = Experts(config.n_routed_experts, config.hidden_size, config.moe_intermediate_size)
        shared = SwiGLU(config.hidden_size, config.moe_intermediate_size * config.n_shared_experts)
        return Block(config, attention, SparseMLP(router, experts, shared))  # type: ignore[arg-type]

    def make_state(self, kind: type[State], batch: int, capacity: int) -> State:
        config = self.config
        width, where = config.kv_lora_rank + config.qk_rope_head_dim, (self.activation_dtype, self.embedding.device)
        state = kind([LatentState(batch, capacity, width, *where) for _ in range(config.depth)])
        state.planned = capacity
        return state

    def rebalance(self, tokens_LE: Tensor) -> None:
        for mixture, tokens_E in zip(self.mixtures, tokens_LE, strict=True):
            mixture.gate.rebalance(tokens_E, self.config.router_bias_update_rate)

    def name_here(self, name: str) -> str | None:
        """As for every model; layers behind the last predict further tokens and are not read."""
        number = name.removeprefix("model.layers.").split(".")[0]
        return None if number.isdigit() and int(number) >= self.config.num_hidden_layers else super().name_here(name)

    def pieces(self, name: str) -> dict[str, Any]:
        """Published checkpoints keep every expert's three matrices apart."""
        at, experts, _ = name.rpartition(".mlp.experts.")
        if not experts:
            return super().pieces(name)
        return pieces(name, self.get_parameter(name).shape, f"{at}.mlp.experts", "gate_proj", "up_proj", "down_proj")

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "num_key_value_heads": None, "head_dim": None, "kv_lora_rank": 14, "qk_nope_head_dim": 10, "qk_rope_head_dim": 6,
            "v_head_dim": 9, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 11, "n_group": 4,
            "topk_group": 2, "routed_scaling_factor": 1.7,
        }  # fmt: skip
        return super().tiny(**{**sizes, **changes})
