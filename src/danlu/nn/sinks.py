"""Attention sinks: endless text in constant memory (StreamingLLM, Xiao et al. 2023, arXiv:2309.17453).

Heads that look for nothing put their weight on a text's first tokens, so a window that drops these breaks a model. Kept are
the first `sinks` tokens and the latest `window`, and places are counted in what is kept, not in the text (section 3.2): no
distance is ever longer than those of training. So keys are remembered before they are turned. Token t sees a token of its
window at its true distance, and sink j from the place min(t, sinks + window - 1), whatever steps the text is read in.

B rows, H query heads, G key heads, T new tokens, S tokens in reach, K head width.
"""

import torch
from torch import Tensor

from danlu.nn.attention import attend
from danlu.nn.mask import Sight
from danlu.nn.rope import rotate_first
from danlu.nn.state import State, WindowState

Turns = tuple[Tensor, Tensor]
"""Cosine and sine of places, (S, K/2) each."""


class SinkState(WindowState):
    """One layer's sinks and window; `turns` are those of the places 0, 1, ..., set before each step."""

    turns: Turns


class Endless(State):
    """A memory of one size for endless text; every layer keeps its sinks and its window."""

    layers: list[SinkState]  # type: ignore[assignment]  # narrows

    @property
    def most(self) -> int:
        """Tokens that may be read in one step: the smallest window."""
        return min(layer.window for layer in self.layers)

    def places(self, new: int) -> int:
        """How many places the layers count when `new` tokens come."""
        return max(min(self.length, layer.sinks + layer.window - 1) for layer in self.layers) + new


def unturned(turns: Turns, new: int) -> Turns:
    """Turns that leave `new` tokens as they are."""
    return torch.ones_like(turns[0][:new]), torch.zeros_like(turns[1][:new])


def attend_endless(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, sight: Sight, state: SinkState, *,
    scale: float | None = None, softcap: float | None = None,
) -> Tensor:  # fmt: skip
    """`attend` with places counted in what `state` keeps; queries and keys come unturned, (B, H, T, K).

    A step of one token costs what a window costs. In longer steps queries that look back at the sinks stand elsewhere than
    those that look at the window: each has both halves, keys fill one, and a product of twice the width adds them up.
    """
    new, held, width = q_BHTK.size(2), k_BGSK.size(2), q_BHTK.size(3)
    last = state.sinks + state.window - 1
    place_T = torch.arange(held - new, held, device=q_BHTK.device)
    k_BGSK = _turned(k_BGSK, state.turns, torch.arange(held, device=k_BGSK.device))
    near_BHTK = _turned(q_BHTK, state.turns, place_T)
    if new == 1 or held <= last + 1:
        return attend(near_BHTK, k_BGSK, v_BGSK, sight, scale=scale, softcap=softcap)
    far_BHTK = _turned(q_BHTK, state.turns, place_T.clamp(max=last))
    both = k_BGSK.new_zeros(*k_BGSK.shape[:3], 2 * width)
    both[:, :, state.sinks :, :width] = k_BGSK[:, :, state.sinks :]
    both[:, :, : state.sinks, width:] = k_BGSK[:, :, : state.sinks]
    q_both = torch.cat([near_BHTK, far_BHTK], dim=-1)
    return attend(q_both, both, v_BGSK, sight, scale=width**-0.5 if scale is None else scale, softcap=softcap)


def _turned(x_BHTK: Tensor, turns: Turns, place_T: Tensor) -> Tensor:
    """Each token turned to its place."""
    return rotate_first(x_BHTK.transpose(1, 2), turns[0][place_T], turns[1][place_T]).transpose(1, 2)
