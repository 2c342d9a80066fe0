"""Rotary frequencies for texts longer than those a model learned from.

A head of K channels has P = K/2 planes; plane i turns by f_i = theta^(-2i/K) radians a token. Trained on texts of M tokens,
a slow plane has seen only part of a turn, and angles beyond it are new to the model. Each function below changes the
frequencies so that they are not, as pure functions of the sizes; values equal those of transformers, whose names the
settings bear. Some also scale queries and keys ("attention scale": it multiplies cosine and sine, so scores by its square).
"""

import math
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from danlu.core.settings import Settings
from danlu.nn.rope import frequencies

_KEYS = {
    "linear": (("factor",), ()),
    "dynamic": (("factor",), ()),
    "yarn": (("factor",), ("original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "truncate",
                           "mscale", "mscale_all_dim")),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), ("original_max_position_embeddings",)),
    "longrope": (("short_factor", "long_factor"), ("factor", "original_max_position_embeddings", "attention_factor")),
}  # fmt: skip
"""What each kind needs, and what else it knows."""


class RopeScaling(Settings):
    """How rotary frequencies are changed for longer texts; `rope_scaling` or `rope_parameters` in config.json."""

    rope_type: Literal["linear", "dynamic", "yarn", "llama3", "longrope"]
    """linear: position interpolation. dynamic: NTK with the length of the text. yarn, llama3, longrope: by wavelength."""
    factor: float | None = Field(None, ge=1)
    """How many times longer texts may become."""
    original_max_position_embeddings: int | None = Field(None, gt=0)
    """Tokens of a text before scaling (yarn, llama3, longrope); null: max_position_embeddings."""
    attention_factor: float | None = Field(None, gt=0)
    """Scale of queries and keys (yarn, longrope); null: from the factor."""
    beta_fast: float | None = Field(None, gt=0)
    """yarn: planes that make more turns than this within the original length stay; null: 32."""
    beta_slow: float | None = Field(None, gt=0)
    """yarn: planes that make fewer turns than this are interpolated; null: 1."""
    truncate: bool | None = None
    """yarn: round the borders between those planes outwards; null: yes."""
    mscale: float | None = None
    """yarn: weight of the factor's logarithm in the attention scale, over that of mscale_all_dim."""
    mscale_all_dim: float | None = None
    """yarn: see mscale."""
    low_freq_factor: float | None = Field(None, gt=0)
    """llama3: planes that make fewer turns than this within the original length are interpolated."""
    high_freq_factor: float | None = Field(None, gt=0)
    """llama3: planes that make more turns than this stay."""
    short_factor: tuple[float, ...] | None = None
    """longrope: what each plane is slowed by in texts up to the original length."""
    long_factor: tuple[float, ...] | None = None
    """longrope: what each plane is slowed by in longer texts."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needs, may = _KEYS[self.rope_type]
        given = set(self.model_dump(exclude_none=True)) - {"rope_type"}
        lacking, unknown = [key for key in needs if key not in given], sorted(given - {*needs, *may})
        if lacking or unknown:
            parts = [f"needs {', '.join(lacking)}"] * bool(lacking) + [f"knows no {', '.join(unknown)}"] * bool(unknown)
            raise ValueError(f"rope_type {self.rope_type} {' and '.join(parts)}")
        if self.low_freq_factor and self.high_freq_factor and self.low_freq_factor >= self.high_freq_factor:
            raise ValueError("high_freq_factor must be greater than low_freq_factor")
        return self

    @property
    def by_length(self) -> bool:
        """Whether the frequencies depend on how long a text is."""
        return self.rope_type in ("dynamic", "longrope")

    def trained(self, context: int) -> int:
        """Tokens of a text before scaling, where the config's max_position_embeddings is `context`."""
        return self.original_max_position_embeddings or context

    def check(self, head_width: int) -> None:
        """Raise ValueError where heads of this width cannot be scaled so."""
        for name, slower in (("short_factor", self.short_factor), ("long_factor", self.long_factor)):
            if slower is not None and len(slower) != head_width // 2:
                raise ValueError(f"{name} has {len(slower)} numbers, but heads of {head_width} have {head_width // 2} planes")
        if self.rope_type == "dynamic" and head_width <= 2:
            raise ValueError("dynamic scaling needs heads of more than 2 channels")


def linear(plain_P: Tensor, factor: float) -> Tensor:
    """Position interpolation: token m stands where m / factor stood.

    Source: Chen et al. 2023 (arXiv:2306.15595), eq. 4.
    """
    return plain_P / factor


def dynamic(head_width: int, theta: float, factor: float, trained: int, length: int | Tensor) -> Tensor:
    """NTK-aware scaling by the length of the text: the base grows so that the slowest plane is interpolated, the fastest stays.

    length: tokens of the whole text, a number or (...,); up to `trained` nothing changes. Returns (P,) or (..., P).
    Source: YaRN (arXiv:2309.00071), sections 3.1 and 3.3, with transformers' (factor L / M - (factor - 1)) as the stretch.
    """
    longest = torch.as_tensor(length, dtype=torch.float64).clamp(min=trained)
    stretch = factor * longest / trained - (factor - 1)
    base = theta * stretch ** (head_width / (head_width - 2))
    return frequencies(head_width, base.float()[..., None])


def yarn(
    head_width: int, theta: float, factor: float, trained: int, beta_fast: float = 32, beta_slow: float = 1, truncate: bool = True
) -> Tensor:
    """NTK by parts: fast planes stay, slow ones are interpolated, a ramp over the planes lies between.

    Source: YaRN (arXiv:2309.00071), section 3.2; the ramp runs over plane numbers, as in its authors' code.
    """

    def plane(full_turns: float) -> float:
        """Number of the plane that makes so many turns within `trained` tokens: where M theta^(-2i/K) = 2 pi turns."""
        return head_width * math.log(trained / (full_turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = plane(beta_fast), plane(beta_slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_width - 1)
    ramp_P = ((torch.arange(head_width // 2).float() - first) / ((last - first) or 0.001)).clamp(0, 1)
    plain_P = frequencies(head_width, theta)
    return plain_P / factor * ramp_P + plain_P * (1 - ramp_P)


def yarn_scale(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """YaRN's attention scale, 0.1 ln(factor) + 1 (section 3.4); with both weights their quotient, as DeepSeek has it."""

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    return scale(mscale) / scale(mscale_all_dim) if mscale and mscale_all_dim else scale(1.0)


def llama3(plain_P: Tensor, factor: float, low: float, high: float, trained: int) -> Tensor:
    """Planes of more than `high` turns in `trained` tokens stay, of fewer than `low` are interpolated, between them both mix.

    Source: The Llama 3 Herd of Models (arXiv:2407.21783), section 3.4; the formula is in its authors' code.
    """
    turns_P = trained * plain_P / (2 * math.pi)
    stay_P = ((turns_P - low) / (high - low)).clamp(0, 1)
    return (1 - stay_P) * plain_P / factor + stay_P * plain_P


def longrope(plain_P: Tensor, short_P: Tensor, long_P: Tensor, trained: int, length: int | Tensor) -> Tensor:
    """Each plane slowed by a factor of its own, found by search; other factors beyond the original length.

    length: as for `dynamic`. Source: Ding et al. 2024 (arXiv:2402.13753), section 3.
    """
    beyond = (torch.as_tensor(length) > trained)[..., None]
    return plain_P / torch.where(beyond, long_P, short_P)


def longrope_scale(factor: float, trained: int) -> float:
    """LongRoPE's attention scale, sqrt(1 + ln(factor) / ln(trained))."""
    return math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0


def scaled(
    scaling: RopeScaling | None, head_width: int, theta: float, context: int, length: int | Tensor = 0
) -> tuple[Tensor, float]:
    """Frequencies in radians a token, (P,), and the attention scale.

    context: max_position_embeddings of the config. length: tokens of the whole text, for kinds that depend on it; where it
    is a tensor (...,) those give (..., P).
    """
    plain_P = frequencies(head_width, theta)
    if scaling is None:
        return plain_P, 1.0
    trained = scaling.trained(context)
    factor = scaling.factor or context / trained
    match scaling.rope_type:
        case "linear":
            return linear(plain_P, factor), 1.0
        case "dynamic":
            return dynamic(head_width, theta, factor, trained, length), 1.0
        case "yarn":
            truncate = True if scaling.truncate is None else scaling.truncate
            found = yarn(head_width, theta, factor, trained, scaling.beta_fast or 32, scaling.beta_slow or 1, truncate)
            return found, scaling.attention_factor or yarn_scale(factor, scaling.mscale, scaling.mscale_all_dim)
        case "llama3":
            assert scaling.low_freq_factor and scaling.high_freq_factor
            return llama3(plain_P, factor, scaling.low_freq_factor, scaling.high_freq_factor, trained), 1.0
        case "longrope":
            short_P, long_P = torch.tensor(scaling.short_factor), torch.tensor(scaling.long_factor)
            found = longrope(plain_P, short_P, long_P, trained, length)
            return found, scaling.attention_factor or longrope_scale(factor, trained)
