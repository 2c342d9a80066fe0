"""The speed preset: blocks that learn more from each token of a short run. Not a Hugging Face shape, so it stays in Danlu.

Each idea is one setting, off by a word: squared ReLU (arXiv:2109.08668), value embeddings and residual scalars
(modded-nanogpt), output projections that start at zero (arXiv:2203.03466), QK-norm (arXiv:2010.04245), soft-capped
logits (arXiv:2408.00118), vectors for token pairs. B rows, T tokens, D width, V vocabulary.
"""

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.decoder import Decoder, DecoderConfig, swiglu
from danlu.nn.bigram import BigramEmbedding, tokens_before
from danlu.nn.linear import Embedding
from danlu.nn.loss import soft_cap
from danlu.nn.mask import Sight
from danlu.nn.norm import RMSNorm
from danlu.nn.relu2 import ReLU2
from danlu.nn.self_attention import QKNormAttention, SelfAttention
from danlu.nn.sinks import Endless
from danlu.nn.state import LayerState, State, view


class SprintState(State):
    """Remembers the tokens too: the next one's pair needs the last."""

    ids_BS: Tensor | None = None

    def before(self, ids_BT: Tensor) -> Tensor:
        """The token before each new one, -1 at the start."""
        return tokens_before(ids_BT, None, None if self.ids_BS is None or self.length == 0 else self.ids_BS[:, self.length - 1])

    def remember(self, ids_BT: Tensor) -> None:
        """Append tokens and move on."""
        held = ids_BT[:, :0] if self.ids_BS is None else self.ids_BS[:, : self.length]
        self.ids_BS = torch.cat([held, ids_BT], dim=1)
        self.length += ids_BT.size(1)

    def reorder(self, rows: Tensor) -> None:
        super().reorder(rows)
        self.ids_BS = None if self.ids_BS is None else self.ids_BS[rows]


class Block(nn.Module):
    """Pre-norm layer over a stream that may be rescaled and reminded of its beginning, (B, T, D) -> (B, T, D)."""

    def __init__(self, config: "Sprint.Config", index: int):
        super().__init__()
        sizes = (config.hidden_size, config.num_attention_heads, config.key_heads, config.head_width)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = QKNormAttention(*sizes, config.rms_norm_eps) if config.qk_norm else SelfAttention(*sizes)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = ReLU2(config.hidden_size, config.intermediate_size) if config.mlp == "relu2" else swiglu(config)
        if config.value_embeddings and (config.num_hidden_layers - 1 - index) % 2 == 0:  # every other layer, the last included
            self.embed_values = Embedding(config.vocab_size, config.key_heads * config.head_width)
        if config.residual_scalars:
            self.residual_scale = nn.Parameter(torch.empty(1))
            self.shortcut_scale = nn.Parameter(torch.empty(1))

    def forward(
        self,
        x: Tensor,
        first: Tensor,
        ids_BT: Tensor,
        rope: tuple[Tensor, Tensor],
        sight: Sight,
        state: LayerState | None = None,
    ) -> Tensor:
        if hasattr(self, "residual_scale"):
            x = x * self.residual_scale + first * self.shortcut_scale
        bonus = self.embed_values(ids_BT) if hasattr(self, "embed_values") else None
        x = x + self.self_attn(x, self.input_layernorm, rope, sight, state, bonus)
        return x + self.mlp(x, self.post_attention_layernorm)


class Trunk(nn.Module):
    """All but the head."""

    def __init__(self, config: "Sprint.Config"):
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        if config.bigram_rows:
            self.embed_bigrams = BigramEmbedding(config.bigram_rows, config.hidden_size, config.vocab_size)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


@MODELS.register
class Sprint(Decoder):
    """Saved in Danlu's own folder format, `model_type` danlu_sprint."""

    class Config(DecoderConfig):
        hf_type: ClassVar[str] = "danlu_sprint"
        hf_class: ClassVar[str] = "DanluSprint"
        fixed: ClassVar[dict[str, Any]] = {}

        name: Literal["sprint"] = "sprint"  # type: ignore[assignment]  # narrows
        mlp: Literal["relu2", "swiglu"] = "relu2"
        """Feed-forward layer; relu2 has two matrices where swiglu has three."""
        qk_norm: bool = True
        """Normalise queries and keys before they meet."""
        value_embeddings: bool = True
        """Every other layer adds a vector looked up by token to its values: memory, hardly any arithmetic."""
        zero_init: bool = False
        """Matrices that write to the residual stream start at zero."""
        residual_scalars: bool = False
        """Each layer scales the stream and adds a share of the embedding, both learnt."""
        softcap: float | None = Field(15.0, gt=0)
        """Logits stay below this in size; null: no cap."""
        bigram_rows: int = Field(16384, ge=0)
        """Rows of a table with a vector for each pair of tokens, added to the embedding; 0: none."""

    @classmethod
    def trunk(cls, config: Any) -> nn.Module:
        return Trunk(config)

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        sight = view(ids_BT, state, documents_BT, prefix_BT)
        rope = self.rope(sight, ids_BT, state)
        x = self.model.embed_tokens(ids_BT)
        if self.config.bigram_rows:
            before_BT = tokens_before(ids_BT, documents_BT, None) if state is None else state.before(ids_BT)
            x = x + self.model.embed_bigrams(ids_BT, before_BT)
        first = x
        for index, layer in enumerate(self.model.layers):
            x = layer(x, first, ids_BT, rope, sight, state.layers[index] if state else None)
        if isinstance(state, SprintState):
            state.remember(ids_BT)
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return soft_cap(super().logits(hidden), self.config.softcap)

    def to_head(self, hidden_ND: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return hidden_ND, {"cap": self.config.softcap}

    def new_state(self, batch: int, capacity: int) -> State:
        return self.make_state(SprintState, batch, capacity)

    def endless_state(self, batch: int, window: int, sinks: int = 4) -> Endless:
        raise ValueError("sprint is made for short runs and short texts: endless text is not computed for it")

    def spread(self, name: str, parameter: nn.Parameter) -> float:
        return 0.0 if name.endswith(self.writers) and self.config.zero_init else super().spread(name, parameter)

    def constant(self, name: str) -> float:
        return 1.0 if name.endswith("residual_scale") else super().constant(name)

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        return super().tiny(**{"bigram_rows": 53, "num_hidden_layers": 3, **changes})
