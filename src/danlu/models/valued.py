"""A language model with a value beside its words: one number a token, what the text up to there is expected to come to.

For training alone (objectives/ppo.py): it travels in checkpoints, and the published folder holds the language model without it.
The number begins at zero everywhere. B rows, T tokens, D width.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from danlu.models.base import CausalLM
from danlu.models.heads import behead
from danlu.nn.linear import Linear


class Valued(nn.Module):
    """`body` writes; `value` reads its vectors, or those of a second body (`critic`) that begins as a copy."""

    def __init__(self, body: CausalLM, own: bool = False):
        super().__init__()
        self.body = body
        self.critic = behead(copy.deepcopy(body)) if own else None
        self.value = Linear(body.config.width, 1, bias=True)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)  # type: ignore[arg-type]  # made with a bias
        self.value.to(body.device)

    def values(self, hidden_BTD: Tensor, ids_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        """What each token's text so far is worth, (B, T) float32. hidden_BTD: the body's vectors of the same tokens."""
        if self.critic is not None:
            hidden_BTD = self.critic.hidden(ids_BT, documents_BT=documents_BT)  # type: ignore[operator]  # a CausalLM
        return self.value(hidden_BTD).squeeze(-1).float()

    # ---- what policies and training ask of a language model

    def hidden(self, ids_BT: Tensor, **how: Any) -> Tensor:
        """The body's vectors."""
        found: Tensor = self.body.hidden(ids_BT, **how)
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """The body's logits."""
        return self.body.logits(hidden)

    def token_logprobs_and_entropy(self, hidden_ND: Tensor, targets_N: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """The body's."""
        return self.body.token_logprobs_and_entropy(hidden_ND, targets_N, temperature)

    def penalty(self) -> Tensor | None:
        """The body's own addition to the loss."""
        return self.body.penalty()

    @property
    def config(self) -> Any:
        """The body's settings."""
        return self.body.config

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.body.device

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """Type of the bodies' matrix products."""
        return self.body.compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype | None) -> None:
        self.body.compute_dtype = dtype
        if self.critic is not None:
            self.critic.compute_dtype = dtype

    def flops_per_token(self, row_tokens: int) -> float:
        """Arithmetic of one training token: twice that of the body where there is a second one."""
        return self.body.flops_per_token(row_tokens) * (2 if self.critic is not None else 1)
