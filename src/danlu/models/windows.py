"""Which layers look through a sliding window, as Qwen's config.json says it (Beltagy et al. 2020, arXiv:2004.05150).

A layer's window is how many tokens it sees, itself included; stacked layers reach further, one window a layer.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from danlu.models.decoder import DecoderConfig

Kind = Literal["full_attention", "sliding_attention"]


class WindowedConfig(DecoderConfig):
    """A rotary decoder some of whose layers may look through a window."""

    absent: ClassVar[dict[str, Any]] = {"sliding_window": 4096, "max_window_layers": 28}

    use_sliding_window: bool = False
    """Whether any layer looks through a window."""
    sliding_window: int | None = Field(None, gt=0)
    """Tokens that such a layer sees, the newest included; needed where there is one."""
    max_window_layers: int = Field(0, ge=0)
    """Layers before this one see everything; ignored where layer_types are given."""
    layer_types: list[Kind] | None = None
    """What each layer is; null: full_attention before max_window_layers, sliding_attention from there on."""

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        kinds = self.layer_types
        if kinds is not None and len(kinds) != self.num_hidden_layers:
            raise ValueError(f"layer_types names {len(kinds)} layers of {self.num_hidden_layers}")
        if self.use_sliding_window and self.sliding_window is None:
            raise ValueError("use_sliding_window needs a sliding_window: how many tokens such a layer sees")
        if kinds is not None and "sliding_attention" in kinds and not self.use_sliding_window:
            raise ValueError("layer_types has sliding_attention, but use_sliding_window is off")
        return self

    @property
    def kinds(self) -> list[Kind]:
        """What each layer is, resolved."""
        if self.layer_types is not None:
            return self.layer_types
        first = self.max_window_layers if self.use_sliding_window else self.num_hidden_layers
        return ["sliding_attention" if index >= first else "full_attention" for index in range(self.num_hidden_layers)]

    @property
    def windows(self) -> tuple[int | None, ...]:
        return tuple(self.sliding_window if kind == "sliding_attention" else None for kind in self.kinds)

    def to_hf(self) -> dict[str, Any]:
        return {**super().to_hf(), "layer_types": self.kinds}
