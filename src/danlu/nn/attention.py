"""Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762) with grouped keys (arXiv:2305.13245).

B rows, H query heads, G key heads (G divides H), T new tokens, S tokens in reach, K head width. `attend_plain` is the
definition; `attend` picks the kernel. On a processor each document of a packed row attends by itself, so that nothing is
computed that a mask would hide. Elsewhere, in long rows, those that hold one document take the causal kernel, which skips the
upper half, and only the others pay for a mask; in short rows taking a batch apart costs more than the mask.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.nn.mask import Sight

_LONG = 1024
"""Tokens from which splitting a batch pays: the mask costs 1.0x the causal kernel's time at 512, 1.45x at 1024, 1.8x at 2048."""

_SHORT = 256
"""Tokens below which bfloat16 is no faster than float32 here."""


def attend_plain(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    seen: Tensor | None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The definition of attention, (B, H, T, K).

    seen: booleans that broadcast to (B, H, T, S); None: everything. scale: of the products, 1/sqrt(K) when left out.
    softcap: scores are bent into (-softcap, softcap). bias: added to the scores, broadcasts to (B, H, T, S).
    """
    groups = q_BHTK.size(1) // k_BGSK.size(1)
    k_BHSK, v_BHSK = (part.repeat_interleave(groups, dim=1) for part in (k_BGSK, v_BGSK))
    score_BHTS = q_BHTK @ k_BHSK.mT * (q_BHTK.size(-1) ** -0.5 if scale is None else scale)
    if softcap is not None:
        score_BHTS = softcap * (score_BHTS / softcap).tanh()
    if bias is not None:
        score_BHTS = score_BHTS + bias.to(score_BHTS.dtype)
    if seen is not None:
        score_BHTS = score_BHTS.masked_fill(~seen, -math.inf)
    return score_BHTS.softmax(-1) @ v_BHSK


def attend(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    sight: Sight,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """What `attend_plain` computes with `sight.table`, by fused kernels."""
    q, k, v = q_BHTK, k_BGSK, v_BGSK
    if bias is None and _separable(q, sight):
        return _attend_apart(q, k, v, sight, scale, softcap)
    if softcap is not None:
        return attend_plain(q, k, v, sight.reach(k.size(2)).to(q.device), scale=scale, softcap=softcap, bias=bias)
    if bias is not None or not sight.plain:
        return _attend_masked(q, k, v, sight, scale, bias)
    if sight.mixed_rows is not None:
        return _attend_documents(q, k, v, sight, scale)
    if sight.start == 0:
        return _kernel(q, k, v, causal=True, scale=scale)
    if sight.tokens == 1:
        return _kernel(q, k, v, scale=scale)
    return _kernel(q, k, v, seen=sight.table.to(q.device), scale=scale)


def attend_across(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    seen: Tensor | None = None,
    *,
    scale: float | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention to another sequence: what `attend_plain` computes, by fused kernels. seen: (B, 1, T, S) booleans; None: all."""
    mask = _added(seen, bias, q_BHTK.dtype)
    return _kernel(q_BHTK, k_BGSK, v_BGSK, seen=mask, scale=scale)


def _separable(q: Tensor, sight: Sight) -> bool:
    """Whether documents stand side by side that may be taken one by one: on a processor a call costs next to nothing, and taking
    documents of 10 to 400 tokens apart took 0.35 to 0.65 of the time that the masked kernel took for rows of 250 of them."""
    apart = q.device.type == "cpu" and sight.prefix_BT is None and not torch.compiler.is_compiling()
    return apart and sight.mixed_rows is not None


def _attend_apart(q: Tensor, k: Tensor, v: Tensor, sight: Sight, scale: float | None, softcap: float | None) -> Tensor:
    """Each document by itself, rows laid end to end."""
    rows, _, tokens, _ = q.shape
    lengths = [one.tokens for one in sight.apart]
    parts = (_end_to_end(part).split(lengths, dim=2) for part in (q, k, v))
    mixed = [attend(*one, view, scale=scale, softcap=softcap) for *one, view in zip(*parts, sight.apart, strict=True)]
    return torch.cat(mixed, dim=2).transpose(1, 2).unflatten(1, (rows, tokens)).squeeze(0).transpose(1, 2)


def _end_to_end(x_BHTK: Tensor) -> Tensor:
    """(1, H, B T, K); a view where heads lie beside one another for each token, as projections write them."""
    return x_BHTK.transpose(1, 2).flatten(0, 1).unsqueeze(0).transpose(1, 2)


def _attend_masked(q: Tensor, k: Tensor, v: Tensor, sight: Sight, scale: float | None, bias: Tensor | None) -> Tensor:
    everything = not sight.causal and sight.window is None and sight.mixed_rows is None
    latest = sight.causal and sight.window is None and sight.prefix_BT is None and sight.tokens == 1
    newest = sight.window is not None and sight.tokens == 1 and k.size(2) <= sight.window + sight.sinks and sight.start > 0
    seen = None if everything or latest or newest else sight.reach(k.size(2)).to(q.device)
    return _kernel(q, k, v, seen=_added(seen, bias, q.dtype), scale=scale)


def _added(seen: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """One mask for the kernel: booleans, or numbers to add."""
    if bias is None:
        return seen
    return bias.to(dtype) if seen is None else bias.to(dtype).masked_fill(~seen, -math.inf)


def _attend_documents(q: Tensor, k: Tensor, v: Tensor, sight: Sight, scale: float | None) -> Tensor:
    whole, mixed = sight.whole_rows, sight.mixed_rows
    assert mixed is not None
    if len(whole) == 0 or sight.tokens < _LONG:
        return _kernel(q, k, v, seen=sight.table, scale=scale)
    parts = [
        _kernel(q[whole], k[whole], v[whole], causal=True, scale=scale),
        _kernel(q[mixed], k[mixed], v[mixed], seen=sight.mixed_table, scale=scale),
    ]
    return torch.cat(parts)[torch.cat([whole, mixed]).argsort()]


def _kernel(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, seen: Tensor | None = None, scale: float | None = None
) -> Tensor:
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.size(2) < _SHORT and q.requires_grad:
        # On processors the bfloat16 backward kernel takes 6 times as long as the float32 one at 64 tokens, 1.2 times at 256.
        seen = seen if seen is None or seen.dtype == torch.bool else seen.float()
        return _kernel(q.float(), k.float(), v.float(), causal=causal, seen=seen, scale=scale).to(q.dtype)
    grouped = q.size(1) != k.size(1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal, scale=scale, enable_gqa=grouped)
