"""One memory a row, one row after another, through the model's own forward: the plain twin of every faster runner.

It serves every family that writes: recurrent ones, encoder-decoders, counted ones, models that read their prompts both ways.
"""

from collections.abc import Sequence

import numpy as np
import torch

from danlu.engine.model import Model
from danlu.engine.work import Piece, RowFault
from danlu.models.base import Seq2SeqLM
from danlu.nn.state import State


class SoloRunner:
    """See Runner. `sources` (row -> ids) is filled by the engine before the first piece of an encoder-decoder's row."""

    block_tokens = 0
    blocks = 0

    def __init__(self, model: Model):
        self._opened, self._model = model, model.model
        self._ahead = getattr(model.model, "ahead", 0)
        self.vocab_size, self.context = model.model.vocab_size, model.context
        self.kernel = f"torch {torch.__version__}, one row at a time"
        self.whole_prompts = model.both_ways
        self.sources: dict[int, Sequence[int]] = {}
        self._states: dict[int, State] = {}

    @torch.inference_mode()
    def run(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """See Runner.run."""
        return [self._one(piece) for piece in pieces]

    def _one(self, piece: Piece) -> np.ndarray:
        if piece.adapter is not None:
            raise RowFault(piece.row, "this runner has no adapters")
        model = self._model
        if piece.start == 0:
            self._states[piece.row] = model.new_state(1, self._capacity(len(piece.ids)))
        state = self._states[piece.row]
        if max(state.length - self._ahead, 0) != piece.start and not self.rewind(piece.row, piece.start):
            raise RowFault(piece.row, f"its memory holds {state.length - self._ahead} tokens, not {piece.start}")
        ids_1T = torch.from_numpy(piece.ids).to(model.device)[None]
        more = {}
        if isinstance(model, Seq2SeqLM) and piece.start == 0:
            more["source_BSD"] = model.encode(torch.tensor([self.sources[piece.row]], device=model.device))
        if self._opened.both_ways and piece.start == 0:
            more["prefix_BT"] = torch.ones_like(ids_1T, dtype=torch.bool)
        hidden_1TD = model.hidden(ids_1T, state=state, **more)
        if piece.want == 0:
            return np.empty((0, self.vocab_size), np.float32)
        return model.logits(hidden_1TD[0, -piece.want :]).float().cpu().numpy()

    def _capacity(self, tokens: int) -> int:
        """Frequencies that depend on the length of a text want all of it at once; other memories grow."""
        scaling = getattr(self._model.config, "rope_scaling", None)
        return self.context if scaling is not None and scaling.by_length else tokens + self._ahead + 64

    def rewind(self, row: int, length: int) -> bool:
        """See Runner.rewind."""
        try:
            self._states[row].crop(length + self._ahead if length else 0)
        except ValueError:
            return False
        return True

    def forget(self, row: int) -> None:
        """See Runner.forget."""
        self._states.pop(row, None)
        self.sources.pop(row, None)
