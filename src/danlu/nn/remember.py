"""Attention to what a memory holds, of whatever kind it is: the one call between a family's projections and its output.

A family that attends through this decodes from growing keys, from windows, from sinks and from shared blocks without a word about
them. B rows, H query heads, G key heads, T new tokens, K head width.
"""

from torch import Tensor

from danlu.nn.attention import attend
from danlu.nn.mask import Sight
from danlu.nn.paged import PagedMemory, PagedSight, attend_paged
from danlu.nn.sinks import SinkState, attend_endless
from danlu.nn.state import KeyMemory


def attend_remembered(
    q_BHTK: Tensor,
    k_BGTK: Tensor,
    v_BGTK: Tensor,
    sight: Sight,
    memory: KeyMemory | PagedMemory | None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """`attend` to what `memory` holds and to the new tokens, which it then holds too, (B, H, T, K); None: to the new ones."""
    if isinstance(memory, PagedMemory):
        assert isinstance(sight, PagedSight)
        return attend_paged(q_BHTK, k_BGTK, v_BGTK, sight, memory, scale=scale, softcap=softcap, bias=bias)
    k_BGSK, v_BGSK = (k_BGTK, v_BGTK) if memory is None else memory.append(sight.start, k_BGTK, v_BGTK)
    if isinstance(memory, SinkState):
        assert bias is None
        return attend_endless(q_BHTK, k_BGSK, v_BGSK, sight, memory, scale=scale, softcap=softcap)
    return attend(q_BHTK, k_BGSK, v_BGSK, sight, scale=scale, softcap=softcap, bias=bias)
