"""What prompt and prefix tuning share: something learned that stands before every text of a frozen decoder.

Texts that lie packed in a row are set apart, one a row, since each has it before itself; what fills up short rows comes last,
where nothing looks. B rows, T tokens, N texts, L tokens of the longest, P places before each text, D width.
"""

from abc import abstractmethod
from functools import partial
from typing import Any

from torch import Tensor

from danlu.core.errors import UnsupportedModel
from danlu.models.adapters.base import Adapted, Adapter, body
from danlu.models.base import CausalLM
from danlu.nn.mask import positions
from danlu.nn.sinks import Endless
from danlu.nn.state import LayerState, State


class Soft(Adapter):
    """Stands in the place of the model's `hidden`, which it calls with more."""

    merges = False

    def __init__(self, config: Any, model: Adapted):
        super().__init__(config, model)
        inner = body(model)
        memory = inner.new_state(1, 1) if isinstance(inner, CausalLM) else None
        if type(memory) is not State or {type(layer) for layer in memory.layers} != {LayerState}:
            raise UnsupportedModel(f"{inner.config.name}: a {config.name} stands before the text of a decoder whose layers all "
                                   f"keep keys and values of everything. Use lora.")  # fmt: skip

    def lay_on(self, model: Adapted) -> None:
        inner = body(model)
        inner.__dict__["hidden"] = partial(self.hidden, inner)
        inner.__dict__["ahead"] = self.config.tokens

    def take_off(self, model: Adapted) -> None:
        for name in ("hidden", "ahead"):
            body(model).__dict__.pop(name, None)

    def hidden(self, model: CausalLM, ids_BT: Tensor, *, documents_BT: Tensor | None = None, prefix_BT: Tensor | None = None,
               state: State | None = None) -> Tensor:  # fmt: skip
        """See CausalLM.hidden; what stands before a text is read first, and no vector is returned for it."""
        if prefix_BT is not None or isinstance(state, Endless):
            raise ValueError(f"a {self.config.name} stands before texts that are read from left to right, from their beginning")
        if state is not None:
            plain = type(model).hidden
            return self.begin(model, ids_BT, state) if state.length == 0 else plain(model, ids_BT, state=state)
        if documents_BT is None:
            return self.whole(model, ids_BT)
        text_BT, place_BT = apart(documents_BT)
        ids_NL = ids_BT.new_zeros(int(text_BT.max()) + 1, int(place_BT.max()) + 1)
        ids_NL[text_BT, place_BT] = ids_BT
        return self.whole(model, ids_NL)[text_BT, place_BT]

    @abstractmethod
    def whole(self, model: CausalLM, ids_NL: Tensor) -> Tensor:
        """Vectors of texts, one a row, (N, L, D)."""

    @abstractmethod
    def begin(self, model: CausalLM, ids_BT: Tensor, state: State) -> Tensor:
        """Vectors of the first tokens of texts that an empty memory goes on to hold, (B, T, D)."""


def apart(documents_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Which text of all rows a token belongs to, and its place in it, (B, T) each.

    >>> import torch
    >>> text, place = apart(torch.tensor([[4, 4, 7], [4, 5, 5]]))
    >>> text.tolist(), place.tolist()
    ([[0, 0, 1], [2, 3, 3]], [[0, 1, 0], [0, 0, 1]])
    """
    place_BT = positions(documents_BT)
    return (place_BT == 0).flatten().cumsum(0).sub(1).view_as(place_BT), place_BT
