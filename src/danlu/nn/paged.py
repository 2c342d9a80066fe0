"""Keys and values in blocks that any sequence may hold and several may share (PagedAttention, arXiv:2309.06180).

A step is one row: a few tokens of each of many sequences, every token at its own place. Matrices meet them all at once;
attention alone takes the sequences apart. N tokens of a step, R pieces that attention takes together, T tokens of each,
H query heads, G key heads, S tokens in reach, K head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from danlu.nn.attention import attend, attend_plain
from danlu.nn.mask import Sight
from danlu.nn.state import LayerState, Memory, State, WindowState

_TOGETHER = 16
"""Tokens of a piece up to which its attention joins others': longer ones fill the machine alone."""

_NEAR = 64
"""Reach below which all are alike: another call costs more than filling."""


@dataclass(frozen=True, eq=False)
class Span:
    """Where a piece lies in the row of a step, and which tokens of its sequence it holds."""

    begin: int
    """Its first token in the row."""
    tokens: int
    start: int
    """Place of its first token in its sequence."""
    blocks: np.ndarray
    """int64: the blocks of the sequence in order, enough for start + tokens."""

    @property
    def end(self) -> int:
        """Tokens of the sequence after this step."""
        return self.start + self.tokens

    def slots(self, first: int, end: int, block_tokens: int) -> np.ndarray:
        """Where the tokens `first` to `end` of the sequence lie in a pool."""
        place = np.arange(first, end)
        return self.blocks[place // block_tokens] * block_tokens + place % block_tokens


@dataclass(frozen=True, eq=False)
class Group:
    """Pieces of equal length whose attention is one call."""

    at: Tensor | slice
    """Their tokens in the row, R * T of them."""
    pieces: int
    tokens: int
    table_RB: Tensor | None
    """Blocks of each, from the first that any of its tokens sees; None: all that is seen is new."""
    reach: int
    """Tokens of the longest that are read: S."""
    seen: Tensor | None
    """(R, 1, T, S) booleans; None: all, or as `causal` says."""
    causal: bool
    offset: int
    """Place of the first token read; differs between pieces under a window, and is then of no use to a bias."""

    @property
    def sight(self) -> Sight:
        """The same for `attend`."""
        if self.causal or self.seen is None:
            return Sight(self.tokens, causal=self.causal)
        return _Table(self.tokens, causal=False, window=self.tokens, seen=self.seen)

    def part(self, x_NHK: Tensor) -> Tensor:
        """Its tokens of something in the row, (R, T, H, K)."""
        return x_NHK[self.at].unflatten(0, (self.pieces, self.tokens))


@dataclass(frozen=True, eq=False)
class _Table(Sight):
    """A view that is a table of its own."""

    seen: Tensor | None = None

    def reach(self, held: int) -> Tensor:
        assert self.seen is not None
        return self.seen


@dataclass(frozen=True, eq=False)
class PagedSight(Sight):
    """The view of a step: each token sees its own sequence, up to itself, within a window."""

    spans: tuple[Span, ...] = ()
    block_tokens: int = 16
    device: torch.device | str = "cpu"

    @classmethod
    def of(cls, spans: Sequence[Span], block_tokens: int, device: torch.device | str = "cpu") -> "PagedSight":
        """The view of pieces that follow one another without a gap."""
        return cls(sum(span.tokens for span in spans), spans=tuple(spans), block_tokens=block_tokens, device=device)

    def within(self, window: int | None, sinks: int = 0) -> "PagedSight":
        assert sinks == 0
        if window is None or window >= self.end:
            return self
        return PagedSight(self.tokens, window=window, spans=self.spans, block_tokens=self.block_tokens, device=self.device)

    @property
    def end(self) -> int:
        return max(span.end for span in self.spans)

    def here(self, device: torch.device) -> Tensor:
        return self.places_N

    @cached_property
    def places_N(self) -> Tensor:
        """Place of each token in its sequence."""
        return self._moved(np.concatenate([np.arange(span.start, span.end) for span in self.spans]))

    @cached_property
    def slots_N(self) -> Tensor:
        """Where each token's key and value are kept."""
        return self._moved(np.concatenate([span.slots(span.start, span.end, self.block_tokens) for span in self.spans]))

    @cached_property
    def slots_before_N(self) -> Tensor:
        """Where the token before each is kept; of a first token -1."""
        found = []
        for span in self.spans:
            first = max(span.start - 1, 0)
            slots = span.slots(first, span.end - 1, self.block_tokens)
            found.append(slots if span.start else np.concatenate([[-1], slots]))
        return self._moved(np.concatenate(found))

    @cached_property
    def groups(self) -> list[Group]:
        """Short pieces of one length join where their reach is alike within a factor of two, so that filling costs little."""
        joined: dict[tuple[int, ...], list[Span]] = {}
        for index, span in enumerate(self.spans):
            share = max(self._reach(span), _NEAR).bit_length() if span.tokens <= _TOGETHER else -index
            joined.setdefault((span.tokens, share), []).append(span)
        return [self._group(spans) for spans in joined.values()]

    def _first(self, span: Span) -> int:
        """First place read: where the block begins that holds the first token seen."""
        unseen = 0 if self.window is None else max(0, span.start - self.window + 1)
        return unseen // self.block_tokens * self.block_tokens

    def _reach(self, span: Span) -> int:
        return span.end - self._first(span)

    def _group(self, spans: list[Span]) -> Group:
        tokens, reach = spans[0].tokens, max(self._reach(span) for span in spans)
        at_RT = np.concatenate([np.arange(span.begin, span.begin + tokens) for span in spans])
        dense = at_RT[-1] - at_RT[0] + 1 == len(at_RT) and bool((np.diff(at_RT) == 1).all())
        at = slice(int(at_RT[0]), int(at_RT[-1]) + 1) if dense else self._moved(at_RT)
        first_R = np.array([self._first(span) for span in spans])
        if len(spans) == 1 and spans[0].start == 0:
            seen = None if self.window is None or self.window >= tokens else self._seen(spans, first_R, reach)
            return Group(at, 1, tokens, None, reach, seen, causal=seen is None, offset=0)
        room = -(-reach // self.block_tokens)
        table_RB = np.empty((len(spans), room), np.int64)
        for row, (span, first) in enumerate(zip(spans, first_R, strict=True)):
            held = span.blocks[first // self.block_tokens :][:room]
            table_RB[row, : len(held)], table_RB[row, len(held) :] = held, held[-1]
        everything = tokens == 1 and self.window is None and all(span.end == reach for span in spans)
        seen = None if everything else self._seen(spans, first_R, reach)
        return Group(at, len(spans), tokens, self._moved(table_RB), reach, seen, causal=False, offset=int(first_R[0]))

    def _seen(self, spans: list[Span], first_R: np.ndarray, reach: int) -> Tensor:
        start_R = self._moved(np.array([span.start for span in spans]))
        here_RT = start_R[:, None] + torch.arange(spans[0].tokens, device=self.device)
        there_RS = self._moved(first_R)[:, None] + torch.arange(reach, device=self.device)
        lag_RTS = here_RT[:, :, None] - there_RS[:, None, :]
        seen = lag_RTS >= 0
        return (seen if self.window is None else seen & (lag_RTS < self.window)).unsqueeze(1)

    def _moved(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.int64)).to(self.device, non_blocking=True)


class PagedMemory(Memory):
    """One layer's pool: (blocks, block_tokens, G, K) of keys and of values. Zero where nothing was written: a masked token counts
    for nothing only while it is a number."""

    def __init__(self, blocks: int, block_tokens: int, heads: int, head_width: int, value_width: int | None, dtype: torch.dtype,
                 device: torch.device | str):  # fmt: skip
        """value_width: None where keys are all that is kept (nn/latent_attention.py)."""
        sizes, where = (blocks, block_tokens, heads), {"dtype": dtype, "device": device}
        self.keys = torch.zeros(*sizes, head_width, **where)
        self.values = None if value_width is None else torch.zeros(*sizes, value_width, **where)

    def tensors(self) -> dict[str, Tensor]:
        return {"keys": self.keys} if self.values is None else {"keys": self.keys, "values": self.values}

    def reorder(self, rows: Tensor) -> None:
        """Refused: whose a block is, only its owner knows."""
        raise ValueError("a pool of blocks has no rows: reorder the tables of blocks")

    def write(self, slots_N: Tensor, *parts_NGK: Tensor) -> None:
        """Put keys, and values where there are any, into their slots."""
        for pool, part_NGK in zip(self.tensors().values(), parts_NGK, strict=True):
            pool.flatten(0, 1).index_copy_(0, slots_N, part_NGK.to(pool.dtype))

    def read(self, group: Group) -> list[Tensor]:
        """Keys and values that a group reads, (R, G, S, K) each."""
        pools = self.tensors().values()
        return [pool[group.table_RB].flatten(1, 2)[:, : group.reach].transpose(1, 2) for pool in pools]

    def wipe(self, slots: Tensor) -> None:
        """Zeros in these slots: what is no number would spoil others that mask it."""
        for pool in self.tensors().values():
            pool.flatten(0, 1)[slots] = 0


class PagedState(State):
    """Pools of all layers, and the tokens in their slots. `step` is the view of the step that `hidden` computes next."""

    layers: list[PagedMemory]  # type: ignore[assignment]  # narrows
    step: PagedSight

    def __init__(self, like: State, blocks: int, block_tokens: int):
        """Pools for keys and values as the layers of `like` keep them."""
        layers = []
        for memory in like.layers:
            assert isinstance(memory, (LayerState, WindowState))
            _, heads, _, width = memory.keys.shape
            value_width = memory.values.size(3) if "values" in memory.tensors() else None
            layers.append(PagedMemory(blocks, block_tokens, heads, width, value_width, memory.keys.dtype, memory.keys.device))
        super().__init__(layers)
        self.ids = torch.zeros(blocks * block_tokens, dtype=torch.int64, device=layers[0].keys.device)

    def take(self, step: PagedSight, ids_N: Tensor) -> None:
        """Before each `hidden`: which tokens come, and where they stand."""
        self.step = step
        self.ids[step.slots_N] = ids_N

    def view(self, tokens: int, documents_BT: Tensor | None = None, prefix_BT: Tensor | None = None) -> Sight:
        if documents_BT is not None or prefix_BT is not None:
            raise ValueError(
                "sequences in blocks are read from left to right, each for itself: give a state or documents, not both"
            )
        assert tokens == self.step.tokens
        return self.step

    def before(self, ids_1N: Tensor) -> Tensor:
        """The token before each in its sequence, -1 for none."""
        slots_N = self.step.slots_before_N
        return self.ids[slots_N.clamp(min=0)].masked_fill(slots_N < 0, -1)[None]

    def crop(self, length: int) -> None:
        """Refused: every sequence has a length of its own."""
        raise ValueError("sequences in blocks have no common length: write over what is wrong")


def attend_paged(
    q_1HNK: Tensor, k_1GNK: Tensor, v_1GNK: Tensor, sight: PagedSight, memory: PagedMemory, *,
    scale: float | None = None, softcap: float | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Write the new keys and values, then let each piece attend to its own sequence, (1, H, N, K).

    bias: (H, N, S) added to the scores, S from place 0 of each token's own sequence.
    """
    q_NHK, k_NGK, v_NGK = (part[0].transpose(0, 1) for part in (q_1HNK, k_1GNK, v_1GNK))
    memory.write(sight.slots_N, k_NGK, v_NGK)
    mixed_NHK = q_NHK.new_empty(*q_NHK.shape[:2], v_NGK.size(2))
    for group in sight.groups:
        if group.table_RB is None:
            k_RGSK, v_RGSK = (group.part(part).transpose(1, 2) for part in (k_NGK, v_NGK))
        else:
            k_RGSK, v_RGSK = (part.to(q_NHK.dtype) for part in memory.read(group))
        how = {"scale": scale, "softcap": softcap, "bias": None if bias is None else _of_group(bias, group)}
        mixed_RHTK = attend(group.part(q_NHK).transpose(1, 2), k_RGSK, v_RGSK, group.sight, **how)  # type: ignore[arg-type]
        mixed_NHK[group.at] = mixed_RHTK.transpose(1, 2).flatten(0, 1)
    return mixed_NHK.transpose(0, 1)[None]


def _of_group(bias_HNS: Tensor, group: Group) -> Tensor:
    """The part of a bias that a group needs, (R, H, T, S)."""
    assert group.offset == 0
    return group.part(bias_HNS[:, :, : group.reach].transpose(0, 1)).transpose(1, 2)


def attend_paged_plain(
    q_1HNK: Tensor, k_1GNK: Tensor, v_1GNK: Tensor, sight: PagedSight, memory: PagedMemory, *,
    scale: float | None = None, softcap: float | None = None, bias: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The definition: token by token, slot by slot."""
    assert memory.values is not None
    for index, slot in enumerate(sight.slots_N.tolist()):
        block, place = divmod(slot, sight.block_tokens)
        memory.keys[block, place], memory.values[block, place] = k_1GNK[0, :, index], v_1GNK[0, :, index]
    mixed = []
    for span in sight.spans:
        for index in range(span.tokens):
            here = span.start + index
            first = 0 if sight.window is None else max(0, here - sight.window + 1)
            slots_S = span.slots(first, here + 1, sight.block_tokens)
            k_1GSK, v_1GSK = (pool.flatten(0, 1)[slots_S].transpose(0, 1)[None] for pool in (memory.keys, memory.values))
            at = span.begin + index
            near = None if bias is None else bias[:, at : at + 1, first : here + 1]
            mixed.append(attend_plain(q_1HNK[:, :, at : at + 1], k_1GSK, v_1GSK, None, scale=scale, softcap=softcap, bias=near))
    return torch.cat(mixed, dim=2)
