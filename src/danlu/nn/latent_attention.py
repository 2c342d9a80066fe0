"""Multi-head latent attention: keys and values of all heads are made from one small vector a token, which is all that is kept.

Source: DeepSeek-V2 (arXiv:2405.04434), section 2.1 and appendix C; names on disk as DeepSeek-V3 (arXiv:2412.19437). B rows,
T new tokens, S tokens in reach, D width, H heads, R channels of the latent vector, N channels of a head without position,
P channels with (shared by all heads), K = N + P, V channels of a value head.
"""

from dataclasses import astuple, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.nn.attention import attend
from danlu.nn.linear import Linear, whole
from danlu.nn.mask import Sight
from danlu.nn.norm import RMSNorm
from danlu.nn.paged import PagedMemory, PagedSight
from danlu.nn.project import project
from danlu.nn.rope import norm_rotate
from danlu.nn.state import LatentState

_EPS = 1e-6
"""Of the two norms between the halves of a projection; the same in every checkpoint, whatever rms_norm_eps says."""


@dataclass(frozen=True)
class LatentSizes:
    """Channels of the parts."""

    query_rank: int | None
    """R of queries; None: they are projected at once."""
    rank: int
    """R of keys and values."""
    plain_width: int
    """N"""
    turned_width: int
    """P"""
    value_width: int
    """V"""


class LatentAttention(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D).

    scale: of the scores. paired: positions turn neighbouring channels (2i, 2i + 1), as DeepSeek's weights have it; otherwise
    halves.
    """

    def __init__(self, width: int, heads: int, sizes: LatentSizes, *, scale: float, paired: bool = True, bias: bool = False):
        super().__init__()
        self.heads, self.rank, self.scale, self.paired = heads, sizes.rank, scale, paired
        self.plain_width, self.turned_width, self.value_width = sizes.plain_width, sizes.turned_width, sizes.value_width
        query_rank, rank, plain_width, turned_width, value_width = astuple(sizes)
        if query_rank is None:
            self.q_proj = Linear(width, heads * (plain_width + turned_width))
        else:
            self.q_a_proj = Linear(width, query_rank, bias)
            self.q_a_layernorm = RMSNorm(query_rank, _EPS)
            self.q_b_proj = Linear(query_rank, heads * (plain_width + turned_width))
        self.kv_a_proj_with_mqa = Linear(width, rank + turned_width, bias)
        self.kv_a_layernorm = RMSNorm(rank, _EPS)
        self.kv_b_proj = Linear(rank, heads * (plain_width + value_width))
        self.o_proj = Linear(heads * value_width, width, bias)

    def forward(
        self, x: Tensor, norm: RMSNorm, rope: tuple[Tensor, Tensor], sight: Sight, state: LatentState | PagedMemory | None = None
    ) -> Tensor:
        first = self.q_proj if hasattr(self, "q_proj") else self.q_a_proj
        q, compressed = project(x, norm, first, self.kv_a_proj_with_mqa)
        if first is not getattr(self, "q_proj", None):
            (q,) = project(q, self.q_a_layernorm, self.q_b_proj)
        q_BTHK = q.unflatten(-1, (self.heads, -1))
        plain_BTHN, turned_BTHP = q_BTHK.split([self.plain_width, self.turned_width], dim=-1)
        latent_BTR, key_BTP = compressed.split([self.rank, self.turned_width], dim=-1)
        turned_BTHP, key_BTP = self.turn(turned_BTHP, rope), self.turn(key_BTP.unsqueeze(2), rope).squeeze(2)
        if state is None:
            (both,) = project(latent_BTR, self.kv_a_layernorm, self.kv_b_proj)
            mixed_BTHV = self.attend_expanded(plain_BTHN, turned_BTHP, both, key_BTP, sight)
        else:
            mixed_BTHV = self.remember(plain_BTHN, turned_BTHP, self.kv_a_layernorm(latent_BTR), key_BTP, sight, state)
        return self.o_proj(mixed_BTHV.flatten(2))

    def turn(self, x_BTHP: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Positions into the channels that carry them; paired channels are brought apart first, in queries and keys alike."""
        if self.paired:
            x_BTHP = x_BTHP.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2)
        return norm_rotate(x_BTHP, None, 0.0, *rope)

    def remember(
        self, plain_BTHN: Tensor, turned_BTHP: Tensor, latent_BTR: Tensor, key_BTP: Tensor, sight: Sight,
        state: LatentState | PagedMemory,
    ) -> Tensor:  # fmt: skip
        """Attention to what a state holds and to the new tokens, (B, T, H, V)."""
        new_BTK = torch.cat([latent_BTR, key_BTP], dim=-1)
        if isinstance(state, LatentState):
            return self.look(plain_BTHN, turned_BTHP, state.add(sight.start, new_BTK), sight, first=sight.start == 0)
        assert isinstance(sight, PagedSight)
        state.write(sight.slots_N, new_BTK[0, :, None])
        mixed_NHV = plain_BTHN.new_empty(*plain_BTHN.shape[1:3], self.value_width)
        for group in sight.groups:
            first = group.table_RB is None
            held_RSK = group.part(new_BTK[0]) if first else state.read(group)[0][:, 0].to(new_BTK.dtype)
            plain_RTHN, turned_RTHP = group.part(plain_BTHN[0]), group.part(turned_BTHP[0])
            mixed_NHV[group.at] = self.look(plain_RTHN, turned_RTHP, held_RSK, group.sight, first=first).flatten(0, 1)
        return mixed_NHV[None]

    def look(self, plain_BTHN: Tensor, turned_BTHP: Tensor, held_BSK: Tensor, sight: Sight, *, first: bool) -> Tensor:
        """Attention to what is held, (B, T, H, V), by the cheaper of two ways. first: whether all of it is new."""
        if not first and sight.tokens < self.break_even:
            return self.attend_absorbed(plain_BTHN, turned_BTHP, held_BSK, sight)
        latent_BSR, key_BSP = held_BSK.split([self.rank, self.turned_width], dim=-1)
        return self.attend_expanded(plain_BTHN, turned_BTHP, self.kv_b_proj(latent_BSR), key_BSP, sight)

    @property
    def break_even(self) -> float:
        """New tokens up to which comparing in latent channels costs less than making all heads' keys and values again.

        For S tokens in reach a head spends S R (N + V) on making them, then T S (K + V), against T S (2R + P).
        """
        dearer = 2 * self.rank - self.plain_width - self.value_width
        return self.rank * (self.plain_width + self.value_width) / dearer if dearer > 0 else float("inf")

    def attend_expanded(self, plain_BTHN: Tensor, turned_BTHP: Tensor, both_BSI: Tensor, key_BSP: Tensor, sight: Sight) -> Tensor:
        """The definition: every head's own keys and values (both_BSI: N + V channels a head), (B, T, H, V)."""
        both_BSHI = both_BSI.unflatten(-1, (self.heads, -1))
        k_BSHN, v_BSHV = both_BSHI.split([self.plain_width, self.value_width], dim=-1)
        k_BSHK = torch.cat([k_BSHN, key_BSP.unsqueeze(2).expand(*k_BSHN.shape[:3], -1)], dim=-1)
        q_BTHK = torch.cat([plain_BTHN, turned_BTHP], dim=-1)
        q_BHTK, k_BHSK, v_BHSV = (part.transpose(1, 2) for part in (q_BTHK, k_BSHK, v_BSHV))
        lack = max(0, q_BHTK.size(-1) - self.value_width)  # the fused kernel wants one width: 2.3 times as fast with zeros added
        mixed_BHTK = attend(q_BHTK, k_BHSK, F.pad(v_BHSV, (0, lack)), sight, scale=self.scale)
        return mixed_BHTK[..., : self.value_width].transpose(1, 2)

    def attend_absorbed(self, plain_BTHN: Tensor, turned_BTHP: Tensor, held_BSK: Tensor, sight: Sight) -> Tensor:
        """The same without keys and values: kv_b_proj moves to the queries and to what comes out, as products associate.

        Source: arXiv:2405.04434, section 2.1.2 and appendix C.
        """
        both_HIR = whole(self.kv_b_proj).to(held_BSK.dtype).unflatten(0, (self.heads, -1))
        k_HNR, v_HVR = both_HIR.split([self.plain_width, self.value_width], dim=1)
        q_BHTR = plain_BTHN.transpose(1, 2) @ k_HNR
        q_BHTK = torch.cat([q_BHTR, turned_BTHP.transpose(1, 2)], dim=-1)
        held_B1SK = held_BSK.unsqueeze(1)
        mixed_BHTR = attend(q_BHTK, held_B1SK, held_B1SK, sight, scale=self.scale)[..., : self.rank]
        return (mixed_BHTR @ v_HVR.mT).transpose(1, 2)
