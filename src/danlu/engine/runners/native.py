"""The whole step in C, for the Llama lineage on processors: engine/native/.

Weights are held and multiplied in one of four formats (native/matrix.py), keys and values in one of three; whatever the
formats, a sequence's logits have the same bits alone and among others, cut into any pieces, on any number of threads.
V vocabulary.
"""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from danlu.core import log
from danlu.engine.adapters import Adapter, places
from danlu.engine.model import Model
from danlu.engine.native import layout, matrix
from danlu.engine.native.layout import BLOCK_TOKENS, CPiece, CStep, Layout, Memory
from danlu.engine.native.matrix import Format, address, aligned, clib, instructions
from danlu.engine.native.tune import tune
from danlu.engine.work import Piece, RowFault
from danlu.models.adapters.base import is_adapted
from danlu.models.base import CausalLM
from danlu.nn.quant import Quantised

_MOST = 512
"""Tokens computed at once: enough for the products to be as fast as they get, and it bounds the memory of a step."""

_SMALL = 30_000_000
"""Parameters below which the choice of a format is not worth two seconds of measuring."""


def unfit(model: Model | CausalLM) -> str | None:
    """Why this runner cannot serve a model; None: it can."""
    inner = model.model if isinstance(model, Model) else model
    if not isinstance(inner, CausalLM):
        return f"{inner.config.name} is no model that writes a text on from left to right"
    if isinstance(model, Model) and model.both_ways:
        return "prompts of this model are read both ways, whole"
    if is_adapted(inner):
        return "an adapter lies on the model, not merged"
    if (why := layout.unfit(inner)) is not None:
        return why
    return "there is no C compiler, or DANLU_KERNELS=0 says not to use it" if matrix.library() is None else None


def takes(small: Quantised) -> bool:
    """Whether the kernels can multiply with a matrix in few bits as it is grouped."""
    return small.group == small.codes.size(1) or (small.group % 32 == 0 and small.group <= 256)


def block_bytes(model: Model, cache: str = "fp32") -> int:
    """Memory of one block in all layers."""
    return layout.block_bytes(model.model.config, cache)


def auto(model: Model | CausalLM) -> tuple[Format, int]:
    """Format of the weights and number of threads that suit this machine and model; measured where it matters."""
    inner = model.model if isinstance(model, Model) else model
    if inner.matmul_parameters() < _SMALL:
        return "fp32", torch.get_num_threads()
    choice = tune(inner)
    log.say(choice.line())
    return choice.form, choice.threads


class NativeRunner:
    """See Runner. Packs the model's weights; `blocks` blocks, or as many as `cache_tokens` need, are set aside at once.

    release: give up the torch model's weights as they are packed, so that they are not in memory twice.
    codes: matrices in few bits already (models/weights.py: read_packed), taken as they are.
    """

    whole_prompts = False
    block_tokens = BLOCK_TOKENS

    def __init__(self, model: Model | CausalLM, weights: Format = "fp32", *, group: int | None = None, cache: str = "fp32",
                 blocks: int | None = None, adapters: Mapping[str, Adapter] | None = None, threads: int | None = None,
                 release: bool = False, codes: Mapping[str, Quantised] | None = None):  # fmt: skip
        if (why := unfit(model)) is not None:
            raise ValueError(f"no native runner: {why}")
        inner: Any = model.model if isinstance(model, Model) else model
        self.vocab_size, self.context = inner.vocab_size, int(inner.config.context)
        self.blocks = blocks or -(-self.context // BLOCK_TOKENS)
        self.threads = threads or torch.get_num_threads()
        self._ids, self._form = len(inner.embedding), (weights, group)
        fitting = {name: places(adapter, inner) for name, adapter in (adapters or {}).items()}
        self._layout = Layout(inner, weights, group, release, codes)
        self._memory = Memory(inner.config, self.blocks, cache)
        self._adapters = {name: self._layout.adapter(parts) for name, parts in fitting.items()}
        self._scratch = aligned(0)
        self.kernel = f"native C, exact: {weights} weights, {cache} memory, {instructions()}"

    def refresh(self, model: Model | CausalLM) -> None:
        """Pack the weights anew, as they are now; for a model that still trains, without adapters by request."""
        assert not self._adapters
        self._layout = Layout(model.model if isinstance(model, Model) else model, *self._form)

    @property
    def nbytes(self) -> int:
        """Memory of the packed weights and of the blocks."""
        return self._layout.nbytes + self._memory.data.nbytes

    def run(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """See Runner.run."""
        for piece in pieces:
            self._check(piece)
        found = [np.empty((piece.want, self.vocab_size), np.float32) for piece in pieces]
        part: list[tuple[int, Piece]] = []
        left = _MOST
        for index, piece in enumerate(pieces):
            for small in _cut(piece, left):
                part.append((index, small))
                left -= len(small.ids)
                if left == 0:
                    self._step(part, found, pieces)
                    part, left = [], _MOST
        if part:
            self._step(part, found, pieces)
        return found

    def rewind(self, row: int, length: int) -> bool:
        """See Runner.rewind: what lies behind is written over."""
        return True

    def forget(self, row: int) -> None:
        """See Runner.forget: blocks belong to the engine."""

    def _check(self, piece: Piece) -> None:
        end = piece.start + len(piece.ids)
        if end > self.context:
            raise RowFault(piece.row, f"{end} tokens are more than the context of {self.context}")
        if piece.ids.min() < 0 or piece.ids.max() >= self._ids:
            raise RowFault(piece.row, f"a token is not among the {self._ids} of the model")
        if piece.adapter is not None and piece.adapter not in self._adapters:
            raise RowFault(piece.row, f"there is no adapter {piece.adapter}")
        assert len(piece.blocks) * BLOCK_TOKENS >= end and 0 <= piece.blocks.min() <= piece.blocks.max() < self.blocks

    def _step(self, part: list[tuple[int, Piece]], found: list[np.ndarray], whole: Sequence[Piece]) -> None:
        """One call of C; logits go to their places in `found`."""
        c_pieces, keep, want, first, rank = (CPiece * len(part))(), [], [], 0, 0
        for c, (_, piece) in zip(c_pieces, part, strict=True):
            blocks = np.ascontiguousarray(piece.blocks, np.int32)
            keep.append(blocks)
            c.first, c.tokens, c.start, c.blocks = first, len(piece.ids), piece.start, blocks.ctypes.data
            if piece.adapter is not None:
                adapter, most = self._adapters[piece.adapter]
                c.adapter, rank = ctypes.addressof(adapter), max(rank, most)
            want += range(first + len(piece.ids) - piece.want, first + len(piece.ids))
            first += len(piece.ids)
        ids = np.concatenate([np.asarray(piece.ids, np.int64) for _, piece in part])
        wanted, logits = np.array(want, np.int64), np.empty((len(want), self.vocab_size), np.float32)
        fault = np.zeros(first, np.int8)
        step = CStep(
            rows=first, pieces=len(part), wanted=len(want), longest=max(piece.start + len(piece.ids) for _, piece in part),
            rank=rank, ids=address(ids), want=address(wanted), piece=ctypes.addressof(c_pieces), logits=address(logits),
            fault=address(fault),
        )  # fmt: skip
        model, threads = ctypes.byref(self._layout.c), ctypes.c_int64(self.threads)
        need = clib().step_bytes(model, ctypes.byref(step), threads)
        if need > len(self._scratch):
            self._scratch = aligned(need + need // 4)
        step.scratch = address(self._scratch)
        clib().step(model, ctypes.byref(self._memory.c), ctypes.byref(step), threads)
        if fault.any():
            at = int(fault.argmax())
            raise RowFault(next(piece.row for c, (_, piece) in zip(c_pieces, part, strict=True) if at < c.first + c.tokens),
                           "the model computes something that is no number from these tokens")  # fmt: skip
        at = 0
        for index, piece in part:  # the last part of a piece may want fewer tokens than are wanted of all its parts
            if piece.want:
                behind = whole[index].start + len(whole[index].ids) - piece.start - len(piece.ids)
                end = len(found[index]) - behind
                found[index][end - piece.want : end] = logits[at : at + piece.want]
                at += piece.want


def _cut(piece: Piece, first: int) -> list[Piece]:
    """A piece in parts of at most `first`, then _MOST tokens."""
    parts, at, size = [], 0, first
    while at < len(piece.ids):
        ids = piece.ids[at : at + size]
        behind = len(piece.ids) - at - len(ids)
        want = max(0, min(len(ids), piece.want - behind))
        parts.append(Piece(piece.row, ids, piece.start + at, piece.blocks, want, piece.adapter))
        at, size = at + len(ids), _MOST
    return parts
