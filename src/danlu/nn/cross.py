"""A decoder's view of a source: each token sees the part of the source that has its own document's number, and no other.

B rows, T tokens written, S tokens of the source, D width, H heads, K head width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from danlu.nn.attention import attend_across
from danlu.nn.state import CrossState, State


def crossing(documents_BT: Tensor, source_documents_BS: Tensor) -> Tensor:
    """The definition, (B, 1, T, S) booleans.

    >>> import torch
    >>> crossing(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1, 2]])).int().tolist()
    [[[[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]]]]
    """
    return (documents_BT[:, :, None] == source_documents_BS[:, None, :]).unsqueeze(1)


@dataclass(frozen=True)
class Across:
    """One step's view of a source, made once and shared by the layers."""

    source_BSD: Tensor | None
    """The source after the encoder; None: every layer's state holds its keys and values."""
    seen: Tensor | None = None
    """Booleans, (B, 1, T, S) or (B, 1, 1, S); None: everything."""

    @classmethod
    def of(
        cls,
        source_BSD: Tensor | None,
        documents_BT: Tensor | None,
        source_documents_BS: Tensor | None,
        state: State | None = None,
    ) -> "Across":
        """The view that `Seq2SeqLM.hidden` describes. Raises ValueError where a source, or its numbers, are missing."""
        first = state.layers[0] if state else None
        if isinstance(first, CrossState) and first.source_keys is not None:
            seen_BS = first.source_seen
            return cls(None, None if seen_BS is None else seen_BS[:, None, None])
        if source_BSD is None:
            raise ValueError("the decoder has no source: give source_BSD, at least with the first tokens")
        if documents_BT is not None:
            if source_documents_BS is None:
                raise ValueError("packed documents need source_documents_BS, so that each sees its own source")
            return cls(source_BSD, crossing(documents_BT, source_documents_BS))
        if source_documents_BS is None:
            return cls(source_BSD)
        seen_BS = source_documents_BS == source_documents_BS[:, :1]  # one document a row: the first; filling follows it
        for layer in state.layers if state else ():
            assert isinstance(layer, CrossState)
            layer.source_seen = seen_BS
        return cls(source_BSD, seen_BS[:, None, None])

    @cached_property
    def blind(self) -> Tensor | None:
        """Tokens whose document has no source, (B, 1, T, 1); None where there is none."""
        if self.seen is None:
            return None
        blind = ~self.seen.any(-1, keepdim=True)
        return blind if bool(blind.any()) else None

    @cached_property
    def open(self) -> Tensor | None:
        """`seen`, and everything for those who see nothing: an empty softmax has no value."""
        return self.seen if self.blind is None or self.seen is None else self.seen | self.blind

    def keys_values(self, state: CrossState | None, project: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, (B, H, S, K): computed once, then remembered."""
        if state is not None and state.source_keys is not None and state.source_values is not None:
            return state.source_keys, state.source_values
        assert self.source_BSD is not None
        keys, values = project(self.source_BSD)
        if state is not None:
            state.source_keys, state.source_values = keys, values
        return keys, values

    def attend(self, q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, *, scale: float | None = None) -> Tensor:
        """Attention to the source; a token whose document has none gets zeros."""
        seen = None if self.open is None else self.open.to(q_BHTK.device)
        mixed_BHTK = attend_across(q_BHTK, k_BHSK, v_BHSK, seen, scale=scale)
        return mixed_BHTK if self.blind is None else mixed_BHTK.masked_fill(self.blind, 0.0)


def heads(x: Tensor, count: int) -> Tensor:
    """(B, T, H K) to (B, H, T, K)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def joined(x_BHTK: Tensor) -> Tensor:
    """(B, H, T, K) to (B, T, H K)."""
    return x_BHTK.transpose(1, 2).flatten(2)
