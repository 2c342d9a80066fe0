"""Rows of constant memory side by side: one token of each is one batch, prompts are read alone.

For families whose layers keep a fixed number of channels (Mamba, RWKV, LSTM, n-grams) and nothing else. Nothing can be shared
between rows and no row can go back: a memory of fixed size keeps no history. B rows of a batch, T tokens, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from danlu.engine.model import Model
from danlu.engine.work import Piece, RowFault
from danlu.models.base import CausalLM
from danlu.nn.state import RecurrentState, State

_ROOM = 8
"""Rows that the pool has room for at first; it doubles."""


def unfit(model: Model) -> str | None:
    """Why this runner cannot serve a model; None: it can."""
    if not isinstance(model.model, CausalLM):
        return f"{model.model.config.name} is no model that writes a text on from left to right"
    odd = {type(layer).__name__ for layer in model.model.new_state(1, 1).layers if type(layer) is not RecurrentState}
    return f"{model.model.config.name} keeps what grows with the text: {', '.join(sorted(odd))}" if odd else None


class RecurrentRunner:
    """See Runner."""

    block_tokens = 0
    blocks = 0
    whole_prompts = False

    def __init__(self, model: Model):
        if (why := unfit(model)) is not None:
            raise ValueError(f"no recurrent runner: {why}")
        self._model = model.model
        self.vocab_size, self.context = model.model.vocab_size, model.context
        self.kernel = f"torch {torch.__version__} on {self._model.device.type}, rows of constant memory"
        self._empty = self._model.new_state(1, 1)
        self._pool = self._model.new_state(_ROOM, 1)
        self._places: dict[int, int] = {}
        self._lengths: dict[int, int] = {}

    @torch.inference_mode()
    def run(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """See Runner.run."""
        for piece in pieces:
            self._admit(piece)
        singles = [piece for piece in pieces if len(piece.ids) == 1]
        batches = ([singles] if singles else []) + [[piece] for piece in pieces if len(piece.ids) > 1]
        done = [self._read(batch) for batch in batches]  # kept only once all have come through: a step is done or not done
        found: dict[int, np.ndarray] = {}
        for batch, (state, logits) in zip(batches, done, strict=True):
            self._put(self._places_of(batch), state)
            self._lengths |= {piece.row: piece.start + len(piece.ids) for piece in batch}
            found |= {piece.row: logits_WV for piece, logits_WV in zip(batch, logits, strict=True)}
        return [found[piece.row] for piece in pieces]

    def _admit(self, piece: Piece) -> None:
        if piece.adapter is not None:
            raise RowFault(piece.row, "this runner has no adapters")
        if piece.start and (held := self._lengths.get(piece.row, 0)) != piece.start:
            raise RowFault(piece.row, f"its memory holds {held} tokens, not {piece.start}")
        if piece.start + len(piece.ids) > self.context:
            raise RowFault(piece.row, f"{piece.start + len(piece.ids)} tokens are more than the context of {self.context}")
        if piece.ids.min() < 0 or piece.ids.max() >= self.vocab_size:
            raise RowFault(piece.row, f"a token is not among the {self.vocab_size} of the model")
        if piece.row not in self._places:
            taken = set(self._places.values())
            self._places[piece.row] = next(place for place in range(len(taken) + 1) if place not in taken)
            if self._places[piece.row] == self._room:
                self._pool.reorder(torch.arange(2 * self._room, device=self._model.device) % self._room)

    def _read(self, pieces: list[Piece]) -> tuple[State, list[np.ndarray]]:
        """Pieces of one length, each of another row: their memories afterwards, and the logits that each wants."""
        fresh = torch.tensor([piece.start == 0 for piece in pieces], device=self._model.device)
        places, layers = self._places_of(pieces), []
        for pool, empty in zip(self._pool.layers, self._empty.layers, strict=True):
            held, new = pool.tensors(), empty.tensors()
            layers.append(RecurrentState(**{
                name: torch.where(fresh.view(-1, *[1] * (held[name].dim() - 1)), new[name], held[name][places]) for name in held
            }))  # fmt: skip
        state = State(layers)
        ids_BT = torch.from_numpy(np.stack([piece.ids for piece in pieces])).to(self._model.device)
        hidden_BTD = self._model.hidden(ids_BT, state=state)
        want = max(piece.want for piece in pieces)
        if want == 0:
            return state, [np.empty((0, self.vocab_size), np.float32)] * len(pieces)
        logits_BWV = self._model.logits(hidden_BTD[:, -want:]).float().cpu().numpy()
        return state, [logits_WV[want - piece.want :] for piece, logits_WV in zip(pieces, logits_BWV, strict=True)]

    def _places_of(self, pieces: list[Piece]) -> Tensor:
        return torch.tensor([self._places[piece.row] for piece in pieces], device=self._model.device)

    @property
    def _room(self) -> int:
        return len(next(iter(self._pool.layers[0].tensors().values())))

    def _put(self, places: Tensor, state: State) -> None:
        """Copy the rows of a state into places of the pool."""
        for pool, layer in zip(self._pool.layers, state.layers, strict=True):
            for name, tensor in layer.tensors().items():
                pool.tensors()[name][places] = tensor.to(pool.tensors()[name].dtype)

    def rewind(self, row: int, length: int) -> bool:
        """See Runner.rewind."""
        return self._lengths.get(row) == length

    def forget(self, row: int) -> None:
        """See Runner.forget."""
        self._places.pop(row, None)
        self._lengths.pop(row, None)
