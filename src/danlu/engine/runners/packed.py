"""All pieces of a step as one row of tokens, keys and values in shared blocks: for every family that keeps nothing else.

In torch, on a processor (there also with matrices in 8 or 4 bits) or a GPU. Matrices meet the tokens of all sequences at once;
nn/paged.py says how attention tells them apart. Leaves out what a family keeps otherwise: `unfit` says why, and other runners
serve it. N tokens of a step, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from danlu.engine.adapters import Adapter, Adapters
from danlu.engine.model import Model
from danlu.engine.shrink import shrunk
from danlu.engine.work import Piece, RowFault
from danlu.models.base import CausalLM
from danlu.nn.linear import Linear, Transposed
from danlu.nn.paged import PagedSight, PagedState, Span
from danlu.nn.quant import Quantised
from danlu.nn.small_linear import GROUPS, SmallLinear
from danlu.nn.state import LatentState, LayerState, WindowState

BLOCK_TOKENS = 16
"""Tokens of a block where nobody said: half a block is the most that a sequence wastes on average."""


def unfit(model: Model, weights: str = "fp32", group: int = 32) -> str | None:
    """Why this runner cannot serve a model with its weights in a form; None: it can."""
    if weights == "int4" and group not in GROUPS:
        return f"its 4 bits share scales in groups of {', '.join(map(str, GROUPS))}, not {group}"
    if weights in ("int8", "int4") and model.model.device.type != "cpu":
        return f"{weights} weights are for processors here, and the model is on {model.model.device}"
    if not isinstance(model.model, CausalLM):
        return f"{model.model.config.name} is no model that writes a text on from left to right"
    if model.both_ways:
        return "prompts of this model are read both ways, whole"
    if model.model.ahead:
        return "an adapter puts something before every text"
    kinds = {type(layer) for layer in model.model.new_state(1, 1).layers}
    odd = sorted(kind.__name__ for kind in kinds - {LayerState, WindowState, LatentState})
    return f"{model.model.config.name} keeps more than something for each token: {', '.join(odd)}" if odd else None


def block_bytes(model: Model, block_tokens: int = BLOCK_TOKENS) -> int:
    """Memory of one block in all layers."""
    layers = model.model.new_state(1, 1).layers
    assert all(isinstance(layer, (LayerState, WindowState)) for layer in layers)
    a_token = sum(part[0, :, 0].nbytes for layer in layers for part in layer.tensors().values())
    return block_tokens * a_token


class PackedRunner:
    """See Runner. `blocks` blocks of `block_tokens` tokens are set aside at once; `adapters` may be asked for by name.

    codes: matrices that the folder holds in few bits already.
    Raises ValueError for a model that it cannot serve, UnsupportedModel for an adapter that does not fit the model.
    """

    whole_prompts = False

    def __init__(self, model: Model, blocks: int, block_tokens: int = BLOCK_TOKENS,
                 adapters: Mapping[str, Adapter] | None = None, weights: Literal["fp32", "bf16", "int8", "int4"] = "fp32",
                 group: int = 32, codes: Mapping[str, Quantised] | None = None):  # fmt: skip
        if (why := unfit(model, weights, group)) is not None:
            raise ValueError(f"no packed runner: {why}")
        self._model = model.model if weights == "fp32" else shrunk(model.model, weights, group, codes)
        self.vocab_size, self.context = model.model.vocab_size, model.context
        self.block_tokens, self.blocks = block_tokens, blocks
        layers = (SmallLinear, Linear, Transposed)
        matrices = [isinstance(part, SmallLinear) for part in self._model.modules() if isinstance(part, layers)]
        form = weights if weights in ("fp32", "bf16") else f"{weights} in {sum(matrices)} of {len(matrices)} matrices"
        self.kernel = f"torch {torch.__version__} on {self._model.device.type}, {self._model.activation_dtype}, {form}, packed"
        self._state = PagedState(self._model.new_state(1, 1), blocks, block_tokens)
        self._state.planned = self.context
        self._adapters = Adapters(model.model, adapters or {}, running=self._model)

    @torch.inference_mode()
    def run(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """See Runner.run."""
        spans = self._laid_out(pieces)
        sight = PagedSight.of(spans, self.block_tokens, self._model.device)
        ids_N = torch.from_numpy(np.concatenate([piece.ids for piece in pieces])).to(self._model.device)
        self._state.take(sight, ids_N)
        with self._adapters.applied(self._users(pieces, spans)):
            hidden_ND = self._model.hidden(ids_N[None], state=self._state)[0]
        self._check(hidden_ND, pieces, sight)
        wanted = np.concatenate([
            np.arange(span.begin + span.tokens - piece.want, span.begin + span.tokens)
            for span, piece in zip(spans, pieces, strict=True)
        ])  # fmt: skip
        logits = np.empty((0, self.vocab_size), np.float32)
        if len(wanted):
            logits = self._model.logits(hidden_ND[torch.from_numpy(wanted).to(hidden_ND.device)]).float().cpu().numpy()
        return np.split(logits, np.cumsum([piece.want for piece in pieces])[:-1])

    def _laid_out(self, pieces: Sequence[Piece]) -> list[Span]:
        spans, begin = [], 0
        for piece in pieces:
            end = piece.start + len(piece.ids)
            if end > self.context:
                raise RowFault(piece.row, f"{end} tokens are more than the context of {self.context}")
            if piece.ids.min() < 0 or piece.ids.max() >= self._rows:
                raise RowFault(piece.row, f"a token is not among the {self._rows} of the model")
            assert len(piece.blocks) * self.block_tokens >= end
            spans.append(Span(begin, len(piece.ids), piece.start, piece.blocks.astype(np.int64)))
            begin += len(piece.ids)
        return spans

    def _users(self, pieces: Sequence[Piece], spans: Sequence[Span]) -> dict[str, Tensor]:
        """Tokens of the row that use each adapter."""
        rows: dict[str, list[np.ndarray]] = {}
        for piece, span in zip(pieces, spans, strict=True):
            if piece.adapter is not None:
                if piece.adapter not in self._adapters.names:
                    known = ", ".join(self._adapters.names) or "none"
                    raise RowFault(piece.row, f"there is no adapter called {piece.adapter!r} (known: {known})")
                rows.setdefault(piece.adapter, []).append(np.arange(span.begin, span.begin + span.tokens))
        return {name: torch.from_numpy(np.concatenate(parts)).to(self._model.device) for name, parts in rows.items()}

    @property
    def _rows(self) -> int:
        return len(self._model.embedding)

    def _check(self, hidden_ND: Tensor, pieces: Sequence[Piece], sight: PagedSight) -> None:
        """Numbers that are none would stay in the blocks, and spoil whoever has them next: they are wiped, and their row ends."""
        if bool(hidden_ND.isfinite().all()):
            return
        bad_N = ~hidden_ND.isfinite().all(-1).cpu()
        for piece, span in zip(pieces, sight.spans, strict=True):
            here = slice(span.begin, span.begin + span.tokens)
            if bool(bad_N[here].any()):
                for layer in self._state.layers:
                    layer.wipe(sight.slots_N[here])
                raise RowFault(piece.row, "the model computes something that is no number from these tokens")

    def rewind(self, row: int, length: int) -> bool:
        """See Runner.rewind: what lies behind is written over."""
        return True

    def forget(self, row: int) -> None:
        """See Runner.forget: blocks belong to the engine."""
