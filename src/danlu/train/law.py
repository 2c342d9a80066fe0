"""How low a loss to expect from a model, a vocabulary and an amount of text; which rates go with it.

Two factors in bits per byte. What the text allows: the loss of a count model (counts.py) on as many tokens, measured on the
corpus itself, so that languages and vocabularies compare. What the model makes of it: a ratio that falls with weights, with
more text the faster the larger the model, fitted to our own small runs (LOG.md; 1.6 % root mean square over two languages,
vocabularies of 512 to 16,384 and 0.1 to 3 million weights). Repeated text counts less each time (Muennighoff et al. 2023,
arXiv:2305.16264); tokens in large batches, and in long rows that resemble each other, count less each (McCandlish et al.
2018, arXiv:1812.06162).
"""

import math
from collections.abc import Mapping

from danlu.train.cost import Shape
from danlu.train.plan import Corpus

FLOOR = 0.929
"""Ratio to the count model that weights alone do not go below, at 300,000 tokens."""
CAPACITY, CAPACITY_POWER = 0.0786, 0.355
"""Ratio lost to few weights: CAPACITY / (million weights) ** CAPACITY_POWER."""
FILLING = 0.34
"""Power of (tokens / 1 million) by which that loss grows in longer runs: a small model is full, however much it reads."""
TABLE_WEIGHT = 0.88
"""What a weight of the embedding counts for, against one in a layer."""
GROWTH = 0.0079
"""Ratio that text adds, by the logarithms of tokens over 300,000 and of weights over 100,000."""
LEARNING = 0.1
"""Ratio that a token's worth counts for, by the logarithm of the share that batch and rows leave of it."""
NOISE_TOKENS, ROW_TOKENS, NOISE_POWER = 4640.0, 600.0, 0.8
"""Tokens of a step, and of a row, that halve a token's worth in a run of 300,000 tokens; both grow with this power of the run."""
CONTEXT = 0.006
"""Ratio that longer rows gain, by the logarithm of their tokens."""
FADING = 0.75
"""Slope of the count model beyond the text counted, as a share of its last: curves flatten."""
STEEPEST = 0.12
"""Most that this slope may be: counts of a text that repeats itself, as code does, fall faster than any network learns."""
SHALLOW = 0.012
"""Ratio that a single layer loses, by the logarithm of tokens over 300,000: attention that copies needs two layers
(arXiv:2209.11895), and time to learn it; in shorter runs one layer ends as low (LOG.md)."""
REPEATS = 15.4
"""Passes over the same text after which another teaches almost nothing (Muennighoff et al., table 2)."""
ITERATIONS = 4
"""Steps of Muon's iteration: a fifth changes nothing that can be measured."""

ENGLISH: dict[int, dict[int, float]] = {
    512: {100_000: 2.378, 300_000: 2.056, 1_000_000: 1.860},
    2048: {100_000: 2.180, 300_000: 1.935, 1_000_000: 1.767},
    8192: {100_000: 2.076, 300_000: 1.886, 1_000_000: 1.741},
    16384: {100_000: 2.008, 300_000: 1.868, 1_000_000: 1.744},
}
"""Bits per byte of the count model on an English novel, where a corpus was not measured: vocabulary, tokens counted."""


def bits_per_byte(shape: Shape, tokens: float, step_tokens: int, row_tokens: int, corpus: Corpus) -> float:
    """Held-out bits per byte to expect after `tokens` tokens in steps of `step_tokens`, in rows of `row_tokens`."""
    bytes_per_token = corpus.bytes_per_token[shape.vocab]
    fresh = worth(tokens * bytes_per_token, corpus.train_bytes) / bytes_per_token
    return text_bits(corpus.text_bits or ENGLISH, shape.vocab, fresh) * ratio(shape, fresh, step_tokens, row_tokens)


def ratio(shape: Shape, tokens: float, step_tokens: int, row_tokens: int) -> float:
    """Loss of a model over that of the count model on the same tokens."""
    weights = shape.matrices + TABLE_WEIGHT * shape.vocab * shape.width
    capacity = CAPACITY / (weights / 1e6) ** CAPACITY_POWER * max(1.0, tokens / 1e6) ** FILLING
    growth = GROWTH * math.log(tokens / 3e5) * max(0.0, math.log(weights / 1e5))
    lost = math.log(share_kept(1024, 128, tokens) / share_kept(step_tokens, row_tokens, tokens))
    shallow = SHALLOW * max(0.0, math.log(tokens / 3e5)) if shape.layers == 1 else 0.0
    return max(0.3, FLOOR + capacity - growth + LEARNING * lost - CONTEXT * math.log(row_tokens / 128) + shallow)


def share_kept(step_tokens: float, row_tokens: float, tokens: float) -> float:
    """Share of each token's worth that remains in steps and rows of these sizes.

    >>> share_kept(4640, 0, 300_000), round(share_kept(4640, 0, 30_000_000), 3)
    (0.5, 0.975)
    """
    longer = (tokens / 3e5) ** NOISE_POWER
    return 1 / ((1 + step_tokens / (NOISE_TOKENS * longer)) * (1 + row_tokens / (ROW_TOKENS * longer)))


def text_bits(curves: Mapping[int, Mapping[int, float]], vocab: int, tokens: float) -> float:
    """Bits per byte of the count model for a vocabulary and a number of tokens, between and beyond those measured.

    Straight lines in logarithms. Beyond the most tokens counted all vocabularies fall alike: their own last slopes would
    cross. Beyond the ends of vocabularies the nearest counts.
    """
    ends = [_slope(curve, len(curve) - 2) for curve in curves.values() if len(curve) > 1]
    slope = max(FADING * sum(ends) / len(ends), -STEEPEST) if ends else 0.0
    sizes = sorted(curves)
    below = max((size for size in sizes if size <= vocab), default=sizes[0])
    above = min((size for size in sizes if size >= vocab), default=sizes[-1])
    low, high = _line(curves[below], tokens, slope), _line(curves[above], tokens, slope)
    return low if below == above else low + (high - low) * math.log(vocab / below) / math.log(above / below)


def _line(points: Mapping[int, float], tokens: float, beyond: float) -> float:
    """Straight pieces through points (tokens, bits) in logarithms, the first prolonged to the left, `beyond` to the right."""
    known = sorted(points)
    if tokens >= known[-1] or len(known) == 1:
        return points[known[-1]] * (tokens / known[-1]) ** beyond
    piece = next(index for index in range(len(known) - 1) if tokens <= known[index + 1])
    return points[known[piece]] * (tokens / known[piece]) ** _slope(points, piece)


def _slope(points: Mapping[int, float], piece: int) -> float:
    """Of one piece, in logarithms; never upwards."""
    start, end = sorted(points)[piece : piece + 2]
    return min(math.log(points[end] / points[start]) / math.log(end / start), 0.0)


def worth(bytes_read: float, train_bytes: float) -> float:
    """Fresh bytes that `bytes_read` bytes of a text of `train_bytes` are worth, repetition included.

    >>> worth(500.0, 1000.0), round(worth(4000.0, 1000.0)), round(worth(1e9, 1000.0))
    (500.0, 3726, 16400)
    """
    fresh = min(bytes_read, train_bytes)
    repeated = bytes_read / fresh - 1
    return fresh * (1 + REPEATS * (1 - math.exp(-repeated / REPEATS)))


def rates(optimiser: str, steps: int, shape: Shape) -> dict[str, float | int | str]:
    """Settings of an optimiser for a run of `steps` steps, its name included.

    Short runs want short memories: Muon's momentum averages a share of the run, no more (docs/decisions/0061).
    """
    match optimiser:
        case "muon":
            momentum = min(0.95, max(0.75, 1 - 0.2 * (300 / max(steps, 1)) ** 0.4))
            return {"name": "muon", "learning_rate": 0.015, "table_rate": 0.015, "vector_rate": 0.015,
                    "momentum": round(momentum, 3), "iterations": ITERATIONS}  # fmt: skip
        case "adamw":
            return {"name": "adamw", "learning_rate": 0.003 * (128 / shape.width) ** 0.5}
    return {"name": optimiser}


def schedule(name: str) -> dict[str, float | str]:
    """Settings of a schedule, its name included."""
    return {"name": "wsd", "warmup": 0.02, "decay": 0.5} if name == "wsd" else {"name": name}


def rope_theta(row_tokens: int) -> float:
    """Base of the rotary wavelengths: short rows waste the slow ones of the usual 10,000 (0.6 % at 128 tokens)."""
    return float(max(1000, 8 * row_tokens))
