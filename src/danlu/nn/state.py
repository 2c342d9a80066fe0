"""What a model remembers of the tokens it has read, so that the next one costs little.

A State is a list of layers' memories, each of its own kind: keys and values of everything (`LayerState`), of a window
(`WindowState`), of what is written beside a source (`CrossState`), one vector a token for all heads (`LatentState`), or a
fixed number of channels (`RecurrentState`). B rows, G key heads, S tokens in reach, T new tokens, K head width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from danlu.nn.mask import Sight


class Memory(ABC):
    """One layer's memory."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Every buffer by attribute name; the first axis of each is the row."""

    def check(self, length: int, held: int) -> None:
        """Raise ValueError where it cannot go back to `length` tokens of `held`."""
        if length != held:
            raise ValueError(f"{type(self).__name__} cannot go back to {length} of {held} tokens: it keeps no history")

    def crop(self, length: int, held: int) -> None:
        """Forget the tokens from `length` on, of `held`. Raises ValueError where it cannot."""
        self.check(length, held)

    def reorder(self, rows: Tensor) -> None:
        """Keep the given rows (B',) in the given order; a row may repeat."""
        for name, tensor in self.tensors().items():
            setattr(self, name, tensor[rows])


class LayerState(Memory):
    """Keys and values of one layer; room for more than is filled."""

    growing: ClassVar[tuple[str, ...]] = ("keys", "values")
    """Buffers (B, G, capacity, K) with a place for each token."""

    def __init__(self, batch: int, heads: int, capacity: int, head_width: int, dtype: torch.dtype, device: torch.device | str,
                 value_width: int | None = None):  # fmt: skip
        self.keys = torch.empty(batch, heads, capacity, head_width, dtype=dtype, device=device)
        self.values = torch.empty(batch, heads, capacity, value_width or head_width, dtype=dtype, device=device)

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values}

    @property
    def capacity(self) -> int:
        """Tokens it has room for before it grows (it doubles)."""
        return self.keys.size(2)

    def append(self, length: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new ones behind `length` and return all so far, (B, G, length + T, K), as views."""
        end = length + k_BGTK.size(2)
        if end > self.capacity:
            self._grow(max(end, 2 * self.capacity))
        self.keys[:, :, length:end] = k_BGTK
        self.values[:, :, length:end] = v_BGTK
        return self.keys[:, :, :end], self.values[:, :, :end]

    def check(self, length: int, held: int) -> None:
        """It can always go back: what lies behind `length` is written over."""

    def _grow(self, capacity: int) -> None:
        for name in self.growing:
            old = getattr(self, name)
            new = old.new_empty(old.size(0), old.size(1), capacity, old.size(3))
            new[:, :, : old.size(2)] = old
            setattr(self, name, new)


class LatentState(LayerState):
    """One vector a token, from which all heads make their keys and values (nn/latent_attention.py); a key head of its own."""

    growing = ("keys",)

    def __init__(self, batch: int, capacity: int, width: int, dtype: torch.dtype, device: torch.device | str):
        self.keys = torch.empty(batch, 1, capacity, width, dtype=dtype, device=device)

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys}

    def add(self, length: int, latent_BTK: Tensor) -> Tensor:
        """Write the new ones behind `length` and return all so far, (B, length + T, K), as a view."""
        end = length + latent_BTK.size(1)
        if end > self.capacity:
            self._grow(max(end, 2 * self.capacity))
        self.keys[:, 0, length:end] = latent_BTK
        return self.keys[:, 0, :end]


class CrossState(LayerState):
    """A decoder layer's memory: keys and values of what is written, and those of its source, which are computed once."""

    source_keys: Tensor | None = None
    """(B, H, S, K) once a source has been read."""
    source_values: Tensor | None = None
    source_seen: Tensor | None = None
    """(B, S) booleans: which tokens of the source are no filling; None: all."""

    def tensors(self) -> dict[str, Tensor]:
        source = {name: getattr(self, name) for name in ("source_keys", "source_values", "source_seen")}
        return {**super().tensors(), **{name: tensor for name, tensor in source.items() if tensor is not None}}


class WindowState(Memory):
    """The latest keys and values of one layer, and those of the first `sinks` tokens: memory does not grow with the text.

    The buffers hold two windows; when they are full, the latest window moves to the front.
    """

    def __init__(self, batch: int, heads: int, window: int, head_width: int, dtype: torch.dtype, device: torch.device | str,
                 sinks: int = 0):  # fmt: skip
        self.window, self.sinks, self.filled = window, sinks, 0
        self.keys = torch.empty(batch, heads, sinks + 2 * window, head_width, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "values": self.values}

    def append(self, length: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new ones and return those that any of them sees, (B, G, S, K): the sinks, then the latest."""
        new = k_BGTK.size(2)
        if self.filled + new > self.keys.size(2):
            self._slide(new)
        end = self.filled + new
        self.keys[:, :, self.filled : end], self.values[:, :, self.filled : end] = k_BGTK, v_BGTK
        self.filled = end
        begin = end - (self.window - 1 + new)
        return self._sight(self.keys, begin, end), self._sight(self.values, begin, end)

    def check(self, length: int, held: int) -> None:
        """Raise ValueError where a token that the next one sees has slid away."""
        if self.filled - (held - length) < min(length, self.sinks + self.window - 1):
            raise ValueError(f"cannot go back to {length} of {held} tokens: a window of {self.window} no longer reaches so far")

    def crop(self, length: int, held: int) -> None:
        super().crop(length, held)
        self.filled -= held - length

    def _sight(self, buffer: Tensor, begin: int, end: int) -> Tensor:
        if begin <= self.sinks:
            return buffer[:, :, :end]
        return torch.cat([buffer[:, :, : self.sinks], buffer[:, :, begin:end]], 2) if self.sinks else buffer[:, :, begin:end]

    def _slide(self, new: int) -> None:
        """Keep the sinks and the latest window - 1, with room for `new`; what a long prompt took is given back here."""
        sinks = min(self.sinks, self.filled)
        begin = max(self.filled - (self.window - 1), sinks)
        for name, old in self.tensors().items():
            kept = torch.cat([old[:, :, :sinks], old[:, :, begin : self.filled]], 2)
            room = max(self.sinks + 2 * self.window, kept.size(2) + new)
            buffer = old.new_empty(*old.shape[:2], room, old.size(3))
            buffer[:, :, : kept.size(2)] = kept
            setattr(self, name, buffer)
        self.filled = sinks + self.filled - begin


KeyMemory = LayerState | WindowState
"""What attention remembers."""


class RecurrentState(Memory):
    """A fixed number of channels a row, whatever has been read; a family names the tensors and replaces them as it reads."""

    def __init__(self, **tensors: Tensor):
        self.names = tuple(tensors)
        for name, tensor in tensors.items():
            setattr(self, name, tensor)

    def tensors(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.names}


class State:
    """The memory of a model: one Memory a layer, all of one length.

    A model's `hidden(ids, state=state)` appends as many tokens as it is given and moves `length` once, at its end.
    """

    def __init__(self, layers: Sequence[Memory]):
        self.layers = list(layers)
        self.length = 0
        self.planned = 0  # tokens a row it was made for: what depends on the length of a whole text depends on this

    @classmethod
    def full(cls, layers: int, batch: int, heads: int, head_width: int, *, capacity: int, dtype: torch.dtype = torch.float32,
             device: torch.device | str = "cpu") -> Self:  # fmt: skip
        """A memory that keeps everything: `capacity` tokens a row before the buffers grow."""
        return cls([LayerState(batch, heads, capacity, head_width, dtype, device) for _ in range(layers)])

    @property
    def bytes(self) -> int:
        """Memory of the buffers."""
        return sum(part.nbytes for layer in self.layers for part in layer.tensors().values())

    def view(self, tokens: int, documents_BT: Tensor | None = None, prefix_BT: Tensor | None = None) -> Sight:
        """What so many new tokens look at. Raises ValueError for documents or prefixes once tokens are held."""
        return Sight(tokens, self.length, documents_BT, prefix_BT=prefix_BT)

    def crop(self, length: int) -> None:
        """Forget all tokens from `length` on, in all layers or none. Raises ValueError where one cannot go back to it."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop to {length} tokens: {self.length} are held")
        for layer in self.layers:
            layer.check(length, self.length)
        for layer in self.layers:
            layer.crop(length, self.length)
        self.length = length

    def reorder(self, rows: Tensor) -> None:
        """Keep the given rows (B',) in the given order; a row may repeat."""
        for layer in self.layers:
            layer.reorder(rows)


def view(ids_BT: Tensor, state: State | None, documents_BT: Tensor | None = None, prefix_BT: Tensor | None = None) -> Sight:
    """What the tokens of a step look at: each other, and what a state holds."""
    tokens = ids_BT.size(1)
    return state.view(tokens, documents_BT, prefix_BT) if state else Sight(tokens, 0, documents_BT, prefix_BT=prefix_BT)
