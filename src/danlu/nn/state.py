"""What decoding remembers: the keys and values of every token so far, in buffers that are filled in place.

B rows, G key heads, S tokens in reach, T new tokens, K head width.
"""

import torch
from torch import Tensor


class LayerState:
    """Keys and values of one layer; room for more than is filled."""

    def __init__(self, batch: int, heads: int, capacity: int, head_width: int, dtype: torch.dtype, device: torch.device):
        self.keys = torch.empty(batch, heads, capacity, head_width, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)

    def append(self, length: int, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new ones behind `length` and return all so far, (B, G, length + T, K), as views."""
        end = length + k_BGTK.size(2)
        if end > self.keys.size(2):
            self._grow(max(end, 2 * self.keys.size(2)))
        self.keys[:, :, length:end] = k_BGTK
        self.values[:, :, length:end] = v_BGTK
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _grow(self, capacity: int) -> None:
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(old.size(0), old.size(1), capacity, old.size(3))
            new[:, :, : old.size(2)] = old
            setattr(self, name, new)


class State:
    """The memory of a model that looks back at everything: one LayerState a layer, all of one length.

    A model's `hidden(ids, state=state)` appends as many tokens as it is given and moves `length` once, at its end.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        heads: int,
        head_width: int,
        *,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        self.layers = [LayerState(batch, heads, capacity, head_width, dtype, torch.device(device)) for _ in range(layers)]
        self.length = 0

    @property
    def capacity(self) -> int:
        """Tokens a row can hold before the buffers grow (they double)."""
        return self.layers[0].keys.size(2)

    @property
    def bytes(self) -> int:
        """Memory of the buffers."""
        return sum(part.nbytes for layer in self.layers for part in (layer.keys, layer.values))

    def crop(self, length: int) -> None:
        """Forget all tokens from `length` on. Raises ValueError for a length that is not there."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop to {length} tokens: {self.length} are held")
        self.length = length

    def reorder(self, rows: Tensor) -> None:
        """Keep the given rows (B',) in the given order; a row may repeat."""
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[rows], layer.values[rows]
