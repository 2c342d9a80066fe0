"""Prompt tuning: vectors that no token has, learned to stand before every text (Lester et al. 2021, arXiv:2104.08691).

They begin as the vectors of tokens drawn at random (section 3.2). P vectors, D width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.core.errors import UnsupportedModel
from danlu.core.seeds import derive
from danlu.models.adapters import ADAPTERS, peft
from danlu.models.adapters.base import Adapted, AdapterConfig, asked_whole, body
from danlu.models.adapters.soft import Soft
from danlu.models.base import CausalLM
from danlu.nn.linear import Embedding, lay_on
from danlu.nn.state import State

TENSOR = "prompt_embeddings"


@ADAPTERS.register
class Prompt(Soft):
    """`prompt_embeddings` (P, D) stand where the first P tokens of every text would."""

    peft_type = "PROMPT_TUNING"

    class Config(AdapterConfig):
        """How many."""

        name: Literal["prompt"] = "prompt"
        tokens: int = Field(20, ge=1)
        """Vectors before every text; they take as many places of the model's context."""

    def __init__(self, config: Config, model: Adapted, seed: int = 0):
        super().__init__(config, model)
        table_VD = body(model).embedding.detach()
        generator = torch.Generator().manual_seed(derive(seed, "adapter", TENSOR))
        drawn_P = torch.randint(len(table_VD), (config.tokens,), generator=generator)
        self.prompt_embeddings = nn.Parameter(table_VD.cpu()[drawn_P].clone())

    def whole(self, model: CausalLM, ids_NL: Tensor) -> Tensor:
        return self._read(model, ids_NL, None)

    def begin(self, model: CausalLM, ids_BT: Tensor, state: State) -> Tensor:
        return self._read(model, ids_BT, state)

    def _read(self, model: CausalLM, ids_NL: Tensor, state: State | None) -> Tensor:
        table = next(part for part in model.modules() if isinstance(part, Embedding) and part.weight is model.embedding)
        before, ahead = table.added, len(self.prompt_embeddings)

        def added(ids: Tensor, rows: Tensor) -> Tensor:
            rows = rows if before is None else before(ids, rows)
            prompt = self.prompt_embeddings.to(rows.dtype).expand(len(rows), -1, -1)
            return torch.cat([prompt, rows[:, ahead:]], dim=1)

        lay_on(table, added)
        try:
            filled = torch.cat([ids_NL.new_zeros(len(ids_NL), ahead), ids_NL], dim=1)
            return type(model).hidden(model, filled, state=state)[:, ahead:]
        finally:
            lay_on(table, before)

    def to_peft(self, model: Adapted) -> tuple[dict[str, Any], dict[str, Tensor]]:
        fields = {
            "num_virtual_tokens": self.config.tokens, "token_dim": self.prompt_embeddings.size(1), "prompt_tuning_init": "RANDOM",
            "num_layers": body(model).config.depth, "num_transformer_submodules": 1,
            "num_attention_heads": body(model).new_state(1, 1).layers[0].tensors()["keys"].size(1),  # type: ignore[operator,union-attr,index]
        }  # fmt: skip
        return fields, {TENSOR: self.prompt_embeddings.detach()}

    @classmethod
    def from_peft(cls, folder: Path, found: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Adapted) -> AdapterConfig:
        return cls.Config(
            whole=asked_whole(model, found),
            tokens=virtual_tokens(folder, found, tensors, {"prompt_tuning_init": ("RANDOM", "TEXT", "SAMPLE_VOCAB")}),
        )

    def fill(self, tensors: Mapping[str, Tensor], model: Adapted) -> set[str]:
        peft.check_shape(Path(body(model).config.name), TENSOR, tensors[TENSOR], self.prompt_embeddings.shape)
        self.prompt_embeddings.copy_(tensors[TENSOR])
        return {TENSOR}


SIZES = frozenset({
    "num_virtual_tokens", "token_dim", "num_attention_heads", "num_layers", "num_transformer_submodules", "modules_to_save",
    "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs", "prompt_tuning_init_state_dict_path", "init_weights",
    "encoder_hidden_size",
})  # fmt: skip


def virtual_tokens(folder: Path, found: Mapping[str, Any], tensors: Mapping[str, Tensor], nothing: Mapping[str, Any]) -> int:
    """Places before each text, as the tensor has them. Raises UnsupportedModel for what is not computed here."""
    peft.check(folder, found, SIZES, nothing)
    if TENSOR not in tensors or tensors[TENSOR].dim() != 2:
        raise UnsupportedModel(f"{folder}: expected a table called {TENSOR}, found {', '.join(sorted(tensors))}.")
    return len(tensors[TENSOR])
