"""Attention with linear biases (Press et al. 2022, arXiv:2108.12409): scores fall with distance, and no position is embedded.

Head h lowers the score of a token that is d places back by slope_h * d. H heads, T new tokens, S tokens in reach.
"""

import math

import torch
from torch import Tensor

from danlu.nn.mask import Sight


def slopes(heads: int) -> Tensor:
    """(H,) float32: 2^(-8/H), 2^(-16/H), ... for a power of two (section 3).

    Other numbers take those of the power of two below, then every other one of the power of two above, as its authors' code.

    >>> slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    >>> slopes(6)[4:].tolist()
    [0.5, 0.125]
    """
    below = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (index + 1) / below) for index in range(below)]
    rest = [2 ** (-4 * (2 * index + 1) / below) for index in range(heads - below)]
    return torch.tensor(first + rest)


def alibi(slopes_H: Tensor, sight: Sight) -> Tensor:
    """What is added to the scores, (H, T, S) float32: zero for a token itself; what it does not see is masked elsewhere.

    Documents that share a row need nothing more: distances within each are the same.
    """
    there_S = torch.arange(sight.end, device=slopes_H.device)
    distance_TS = sight.here(slopes_H.device)[:, None] - there_S
    return slopes_H[:, None, None] * -distance_TS.clamp(min=0).float()
