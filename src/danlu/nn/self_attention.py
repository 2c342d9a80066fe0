"""Self-attention with rotary positions as Llama and Qwen3 lay it out on disk: q_proj, k_proj, v_proj, o_proj.

B rows, T tokens, D width, H query heads, G key heads, K head width.
"""

from torch import Tensor, nn

from danlu.nn.linear import Linear
from danlu.nn.mask import Sight
from danlu.nn.norm import RMSNorm
from danlu.nn.project import project
from danlu.nn.remember import attend_remembered
from danlu.nn.rope import norm_rotate, rotate_first
from danlu.nn.state import KeyMemory


class SelfAttention(nn.Module):
    """x (B, T, D), normed by the block's norm -> (B, T, D); `bonus` (B, T, G K) is added to the values where a family has one.

    scale, softcap: of the scores, as `attend` takes them.
    """

    def __init__(self, width: int, heads: int, key_heads: int, head_width: int, *, in_bias: bool = False, out_bias: bool = False,
                 scale: float | None = None, softcap: float | None = None):  # fmt: skip
        super().__init__()
        self.head_width, self.scale, self.softcap = head_width, scale, softcap
        self.lay_out(width, heads * head_width, key_heads * head_width, in_bias)
        self.o_proj = Linear(heads * head_width, width, out_bias)

    def lay_out(self, width: int, query_width: int, key_width: int, bias: bool) -> None:
        """The matrices before attention."""
        self.q_proj = Linear(width, query_width, bias)
        self.k_proj = Linear(width, key_width, bias)
        self.v_proj = Linear(width, key_width, bias)

    def project(self, x: Tensor, norm: RMSNorm) -> tuple[Tensor, ...]:
        """Queries (B, T, H K), keys and values (B, T, G K) of the normed x."""
        return project(x, norm, self.q_proj, self.k_proj, self.v_proj)

    def forward(
        self,
        x: Tensor,
        norm: RMSNorm,
        rope: tuple[Tensor, Tensor],
        sight: Sight,
        state: KeyMemory | None = None,
        bonus: Tensor | None = None,
    ) -> Tensor:
        q, k, v = self.project(x, norm)
        if bonus is not None:
            v = v + bonus.to(v.dtype)
        q_BTHK, k_BTGK, v_BTGK = (part.unflatten(-1, (-1, self.head_width)) for part in (q, k, v))
        q_BTHK, k_BTGK = self.turn(q_BTHK, k_BTGK, rope)
        q_BHTK, k_BGTK, v_BGTK = (part.transpose(1, 2) for part in (q_BTHK, k_BTGK, v_BTGK))
        mixed_BHTK = attend_remembered(q_BHTK, k_BGTK, v_BGTK, sight, state, scale=self.scale, softcap=self.softcap)
        return self.o_proj(mixed_BHTK.transpose(1, 2).flatten(2))

    def turn(self, q_BTHK: Tensor, k_BTGK: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Queries and keys with their positions in them."""
        return rotate_first(q_BTHK, *rope), rotate_first(k_BTGK, *rope)


class FusedAttention(SelfAttention):
    """Queries, keys and values come out of one matrix, one after another (Phi-3)."""

    def lay_out(self, width: int, query_width: int, key_width: int, bias: bool) -> None:
        self.widths = [query_width, key_width, key_width]
        self.qkv_proj = Linear(width, sum(self.widths), bias)

    def project(self, x: Tensor, norm: RMSNorm) -> tuple[Tensor, ...]:
        (qkv,) = project(x, norm, self.qkv_proj)
        return qkv.split(self.widths, dim=-1)


class QKNormAttention(SelfAttention):
    """Each query and key head normalised before it is turned (Henry et al. 2020, arXiv:2010.04245; RMS as in Qwen3)."""

    def __init__(self, width: int, heads: int, key_heads: int, head_width: int, eps: float, *, bias: bool = False,
                 scale: float | None = None, norm: type[RMSNorm] = RMSNorm):  # fmt: skip
        super().__init__(width, heads, key_heads, head_width, in_bias=bias, out_bias=bias, scale=scale)
        self.q_norm = norm(head_width, eps)
        self.k_norm = norm(head_width, eps)

    def turn(self, q_BTHK: Tensor, k_BTGK: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        q_norm, k_norm = self.q_norm, self.k_norm
        return norm_rotate(q_BTHK, q_norm.gain, q_norm.eps, *rope), norm_rotate(k_BTGK, k_norm.gain, k_norm.eps, *rope)
