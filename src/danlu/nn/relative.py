"""Relative positions as a number added to the scores, learned for each head and bucket of distances (T5, arXiv:1910.10683, 2.1).

Near distances have a bucket each, far ones share buckets whose widths grow, and beyond a limit all are alike. Only the
distance counts, so nothing changes where documents share a row. H heads, T new tokens, S tokens in reach.
"""

import math

import torch
from torch import Tensor

from danlu.nn.linear import Embedding


def buckets(distance: Tensor, count: int, limit: int, *, causal: bool) -> Tensor:
    """Bucket of each distance (key's place minus query's): int64, the same shape, from 0 to count - 1.

    causal: all buckets look back, and keys that lie ahead share the nearest; else half of them look ahead. Half of the
    buckets of a direction hold one distance each, the rest grow evenly in the logarithm up to `limit`.

    >>> buckets(torch.tensor([0, -1, -3, -4, -6, -900, 2]), 8, 16, causal=True).tolist()
    [0, 1, 3, 4, 5, 7, 0]
    >>> buckets(torch.tensor([-900, -1, 0, 1, 900]), 8, 16, causal=False).tolist()
    [3, 1, 0, 5, 7]
    """
    ahead = torch.zeros_like(distance) if causal else (distance > 0) * (count // 2)
    side = count if causal else count // 2
    far = (-distance).clamp(min=0) if causal else distance.abs()
    exact = side // 2
    grown = (far.clamp(min=1).float() / exact).log() / math.log(limit / exact) * (side - exact)
    return ahead + torch.where(far < exact, far, (exact + grown.long()).clamp(max=side - 1))


class RelativeBias(Embedding):
    """What the distances add to the scores of a step, (1, H, T, S); weight (buckets, H)."""

    def __init__(self, count: int, heads: int, limit: int, *, causal: bool):
        super().__init__(count, heads)
        self.limit, self.causal = limit, causal

    def forward(self, tokens: int, start: int = 0) -> Tensor:  # type: ignore[override]  # places in, not ids
        """`tokens` new ones after `start` that are remembered: each distance is looked up once, then laid along its diagonal."""
        end, device = start + tokens, self.weight.device
        distances = torch.arange(-(end - 1), tokens, device=device)
        bias_NH = super().forward(buckets(distances, len(self.weight), self.limit, causal=self.causal))
        lag_TS = torch.arange(end, device=device) - torch.arange(start, end, device=device)[:, None]
        return bias_NH.t()[:, lag_TS + end - 1][None]

    def plain(self, tokens: int, start: int = 0) -> Tensor:
        """The definition: every pair of places looked up by itself."""
        here_T1 = torch.arange(start, start + tokens, device=self.weight.device)[:, None]
        there_S = torch.arange(start + tokens, device=self.weight.device)
        lag_TS = there_S - here_T1
        return super().forward(buckets(lag_TS, len(self.weight), self.limit, causal=self.causal)).permute(2, 0, 1)[None]
