"""Mamba-2 (Dao & Gu 2024, arXiv:2405.21060): Mamba whose decay is one number a head, so that a chunk of tokens is attention.

Against Mamba: heads of P channels that fade together, B and C shared by groups of heads and computed beside the rest instead of
after the convolution, far more states, and a norm behind the gate. The dual form turns the scan into matrix products
(section 6). B rows, T tokens.
"""

import math
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from danlu.models import MODELS
from danlu.models.mamba import StateSpaceConfig, StateSpaceLM
from danlu.nn.mamba2 import Mamba2Mixer, MixerSizes, first_values
from danlu.nn.state import RecurrentState


def limits(said: Any) -> Any:
    """Limits of time steps as config.json gives them: newer transformers write {"__float__": "Infinity"}; null is no limit."""
    if said is None:
        return (0.0, math.inf)
    return [float(part["__float__"]) if isinstance(part, dict) else part for part in said]


def written_limits(own: dict[str, Any], chosen: tuple[float, float]) -> dict[str, Any]:
    """A config.json with the limits in it. Infinity has no name in JSON: no limit at all is left out, which means the same."""
    free = chosen == (0.0, math.inf)
    return {key: value for key, value in own.items() if key != "time_step_limit"} | ({} if free else {"time_step_limit": chosen})


@MODELS.register
class Mamba2(StateSpaceLM):
    """Loads and writes Mamba2ForCausalLM folders."""

    class Config(StateSpaceConfig):
        hf_type: ClassVar[str] = "mamba2"
        hf_class: ClassVar[str] = "Mamba2ForCausalLM"
        absent: ClassVar[dict[str, Any]] = {
            "max_position_embeddings": 2048, "tie_word_embeddings": False, "num_heads": 128, "head_dim": 64, "n_groups": 8,
        }  # fmt: skip
        harmless: ClassVar[tuple[str, ...]] = (*StateSpaceConfig.harmless, "time_step_rank")

        name: Literal["mamba2"] = "mamba2"  # type: ignore[assignment]  # narrows
        state_size: int = Field(64, gt=0)
        """Numbers that a channel remembers."""
        head_dim: int = Field(64, gt=0)
        """Channels of a head."""
        num_heads: int | None = Field(None, gt=0)
        """Heads, expand * hidden_size / head_dim of them; null: just so."""
        n_groups: int = Field(1, gt=0)
        """Groups of heads that share what is written and read, a divisor of the heads."""
        chunk_size: int = Field(256, gt=0)
        """Most tokens that the scan takes at once; changes speed and rounding alone."""
        time_step_limit: tuple[float, float] = (0.0, math.inf)
        """Time steps are kept between these two."""

        @field_validator("time_step_limit", mode="before")
        @classmethod
        def _written_out(cls, value: Any) -> Any:
            return limits(value)

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.heads * self.head_dim != self.inner:
                raise ValueError(
                    f"expand * hidden_size = {self.inner} channels are not num_heads * head_dim = {self.heads} * {self.head_dim}"
                )
            if self.heads % self.n_groups:
                raise ValueError(f"{self.heads} heads do not divide among {self.n_groups} groups")
            return self

        @classmethod
        def sized(cls, *, width: int, inner: int, layers: int, heads: int, context: int) -> dict[str, Any]:
            """Heads of the usual width, or of the widest that divides it where that does not fit."""
            chosen = super().sized(width=width, inner=inner, layers=layers, heads=heads, context=context)
            return {**chosen, "head_dim": math.gcd(2 * width, cls.model_fields["head_dim"].default)}

        @property
        def heads(self) -> int:
            """Heads, resolved."""
            return self.num_heads or self.inner // self.head_dim

        @property
        def mixer(self) -> MixerSizes:
            """Sizes of a layer's mixer."""
            return MixerSizes(
                self.hidden_size, self.heads, self.head_dim, self.state_size, self.n_groups, self.conv_kernel, self.use_conv_bias,
                self.use_bias, self.layer_norm_epsilon, self.chunk_size, self.time_step_limit,
            )  # fmt: skip

        def to_hf(self) -> dict[str, Any]:
            return written_limits({**super().to_hf(), "num_heads": self.heads}, self.time_step_limit)

    @staticmethod
    def mixers(config: Config) -> list[nn.Module]:
        return [Mamba2Mixer(config.mixer) for _ in range(config.num_hidden_layers)]

    def first(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor | None:
        config = self.config
        steps = (config.time_step_min, config.time_step_max, config.time_step_floor)
        return first_values(name, parameter, generator, config.depth, steps)

    def new_memory(self, batch: int) -> RecurrentState:
        memory: RecurrentState = self.backbone.layers[0].mixer.new_memory(batch, self.embedding.device)
        return memory

    def scan_flops(self) -> float:
        return float(self.config.depth * self.config.mixer.scan_flops())

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {
            "vocab_size": 31, "hidden_size": 24, "num_hidden_layers": 2, "state_size": 5, "head_dim": 8, "n_groups": 2,
            "chunk_size": 4, "max_position_embeddings": 64, "initializer_range": 0.2,
        }  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))  # type: ignore[arg-type]
