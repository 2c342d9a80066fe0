"""What families with a mixture of experts share: which layers have one, the balance that training adds, and how it is counted.

A family says what its layers are (mixtral.py, qwen3_moe.py, deepseek_v3.py); the mixture itself is nn/moe.py. L sparse layers,
E experts.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.models.decoder import Decoder, DecoderConfig, Trunk
from danlu.nn.moe import SparseMLP, balance_loss, z_loss
from danlu.nn.state import State


class SparseConfig(DecoderConfig):
    """A rotary decoder whose feed-forward layers are many, a few of them for each token."""

    harmless: ClassVar[tuple[str, ...]] = ("output_router_logits", "router_jitter_noise")

    num_experts_per_tok: int = Field(2, gt=0)
    """Experts that each token takes."""
    router_aux_loss_coef: float = Field(0.001, ge=0)
    """Weight of the balance of experts in the training loss (arXiv:2101.03961, eq. 4-6); 0: none."""
    router_z_loss_coef: float = Field(0.0, ge=0)
    """Weight in the training loss of the squared size of the router's logits (arXiv:2202.08906, eq. 5); 0: none."""

    def check_choices(self, experts: int) -> None:
        """Raise ValueError where a token would take more experts than there are."""
        if self.num_experts_per_tok > experts:
            raise ValueError(f"num_experts_per_tok {self.num_experts_per_tok} is more than the {experts} experts")


def share_of(inner: int, parts: int) -> int:
    """Inner channels of one of `parts` experts that together compute as much as one layer of `inner`; a multiple of 8."""
    return max(8, round(inner / parts / 8) * 8)


class SparseDecoder(Decoder):
    """A rotary decoder with mixtures of experts; a family writes `layer`."""

    writers = (*Decoder.writers, "experts.down_proj")
    used_LE: Tensor | None = None
    """Tokens that each expert of each layer got since `take_use`, over all processes."""

    @staticmethod
    @abstractmethod
    def layer(config: Any, index: int) -> nn.Module:
        """The index-th layer of this family."""

    @classmethod
    def trunk(cls, config: Any) -> Trunk:
        return Trunk(config, [cls.layer(config, index) for index in range(config.num_hidden_layers)])  # type: ignore[misc]

    @property
    def mixtures(self) -> list[SparseMLP]:
        """The sparse layers, in order of depth."""
        return [part for part in self.modules() if isinstance(part, SparseMLP)]

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        for mixture in self.mixtures:
            mixture.noted = None
        return super().hidden(ids_BT, documents_BT=documents_BT, prefix_BT=prefix_BT, state=state)

    def penalty(self) -> Tensor | None:
        """The balance of experts, and the size of router logits, over the tokens of the last forward pass of training.

        One number for what this process read at once: with several micro-batches or processes the loss adds the balance of each,
        weighed by its targets, which asks a little more than the balance of the whole step would.
        """
        noted = [mixture.noted for mixture in self.mixtures if mixture.noted is not None]
        weighed = ((self.config.router_aux_loss_coef, balance_loss), (self.config.router_z_loss_coef, z_loss))
        parts = [weight * measure(noted) for weight, measure in weighed if weight] if noted else []
        return torch.stack(parts).sum() if parts else None

    def after_step(self, add: Callable[[Sequence[float]], list[float]], moved: bool) -> None:
        """Count the tokens of each expert over all processes, and let the family balance by them."""
        mixtures = self.mixtures
        if not mixtures:
            return
        tokens_LE = torch.stack([mixture.take() for mixture in mixtures])
        tokens_LE = torch.tensor(add(tokens_LE.flatten().tolist())).view(tokens_LE.shape)
        self.used_LE = tokens_LE if self.used_LE is None else self.used_LE + tokens_LE
        if moved and any(mixture.gate.weight.requires_grad for mixture in mixtures):  # a frozen router keeps its balance
            self.rebalance(tokens_LE)

    def rebalance(self, tokens_LE: Tensor) -> None:
        """What a family does about the experts that a step used too much; by default the penalty is all."""

    def take_use(self) -> Tensor | None:
        """Tokens of each expert of each sparse layer since the last call, (L, E); None where there was none. None are dropped."""
        used, self.used_LE = self.used_LE, None
        return used

    def matmul_parameters(self) -> int:
        """As for every model, but of the experts only those that a token takes."""
        idle = sum(
            part.numel() * (1 - self.config.num_experts_per_tok / len(part))
            for mixture in self.mixtures for part in mixture.experts.parameters()
        )  # fmt: skip
        return super().matmul_parameters() - round(idle)


def pieces(name: str, shape: Sequence[int], at: str, gate: str, up: str, down: str) -> dict[str, Any]:
    """Where a stack of experts lies on disk: a tensor for each expert, the gate and the up projection apart.

    name: of the stack, `….experts.gate_up_proj` (E, 2F, D) or `….experts.down_proj` (E, D, F); at: what stands before the
    expert's number.

    >>> list(pieces("mlp.experts.gate_up_proj", (1, 6, 4), "mlp.experts", "gate", "up", "down").items())
    [('mlp.experts.0.gate.weight', (0, slice(0, 3, None))), ('mlp.experts.0.up.weight', (0, slice(3, 6, None)))]
    """
    if name.endswith("down_proj"):
        return {f"{at}.{expert}.{down}.weight": (expert,) for expert in range(shape[0])}
    half = shape[1] // 2
    return {
        f"{at}.{expert}.{part}.weight": (expert, rows)
        for expert in range(shape[0])
        for part, rows in ((gate, slice(0, half)), (up, slice(half, 2 * half)))
    }
