"""How low a loss to expect from a model size, a vocabulary and an amount of text; which rates and batch go with it.

A scaling law of the usual form, floor + capacity term + data term (Hoffmann et al. 2022, arXiv:2203.15556), in bits per byte
so that vocabularies compare, with constants fitted to our own small runs (LOG.md, benchmarks/budget_grid.py). Repeated text
counts less each time (Muennighoff et al. 2023, arXiv:2305.16264); tokens in large batches count less each (McCandlish et al.
2018, arXiv:1812.06162). The floor depends on the text and moves no choice.
"""

from danlu.train.cost import Shape

FLOOR = 0.9
"""Bits per byte that no amount of small-model training removes."""
CAPACITY, CAPACITY_POWER = 11.0, 0.24
"""Bits per byte lost to few weights: CAPACITY / weights ** CAPACITY_POWER."""
DATA, DATA_POWER = 130.0, 0.37
"""Bits per byte lost to little text: DATA / bytes ** DATA_POWER."""
DEPTH_NEEDED = 2.0
"""Layers that the first attention patterns take; shallower models lose their effect."""
SHALLOW = 0.1
"""Bits per byte lost to missing depth, per share of it that is missing."""
TABLE_WEIGHT = 0.5
"""What a weight of the embedding counts for, against one in a layer."""
SHORT, SHORT_POWER = 3.0, 0.7
"""Bits per byte lost to short rows: SHORT / (bytes of a row) ** SHORT_POWER."""
NOISE = 3600
"""Tokens of a batch that is twice as large as helps, in a run of 300,000 tokens."""
ITERATIONS = 4
"""Steps of Muon's iteration: a fifth changes nothing that can be measured."""
REPEATS = 15.4
"""Passes over the same text after which another teaches almost nothing (Muennighoff et al., table 2)."""


def worth(bytes_read: float, train_bytes: float) -> float:
    """Fresh bytes that `bytes_read` bytes of a text of `train_bytes` are worth, repetition included.

    >>> worth(500.0, 1000.0), round(worth(4000.0, 1000.0)), round(worth(1e9, 1000.0))
    (500.0, 3727, 16400)
    """
    fresh = min(bytes_read, train_bytes)
    repeated = bytes_read / fresh - 1
    return fresh * (1 + REPEATS * (1 - 2.718281828459045 ** (-repeated / REPEATS)))


def bits_per_byte(
    shape: Shape, tokens: float, step_tokens: int, row_tokens: int, bytes_per_token: float, train_bytes: float
) -> float:
    """Held-out bits per byte to expect after `tokens` tokens in steps of `step_tokens`, in rows of `row_tokens`."""
    learned = worth(tokens * bytes_per_token, train_bytes) / (1 + step_tokens / noise_tokens(tokens))
    capacity = shape.matrices + TABLE_WEIGHT * shape.vocab * shape.width
    loss = FLOOR + CAPACITY * capacity**-CAPACITY_POWER + DATA * learned**-DATA_POWER
    loss += SHORT / (row_tokens * bytes_per_token) ** SHORT_POWER
    return loss + SHALLOW * max(0.0, DEPTH_NEEDED - shape.layers) / DEPTH_NEEDED


def noise_tokens(tokens: float) -> float:
    """Batch, in tokens, at which half of each token's worth is lost to averaging; it grows as a run gets longer.

    >>> round(noise_tokens(300_000)), round(noise_tokens(3_000_000))
    (3600, 11384)
    """
    return NOISE * (tokens / 300_000) ** 0.5


def rates(optimiser: str, steps: int, shape: Shape) -> dict[str, float | int | str]:
    """Settings of an optimiser for a run of `steps` steps, its name included.

    Short runs want short memories: Muon's momentum averages a share of the run, no more.
    """
    match optimiser:
        case "muon":
            momentum = min(0.95, max(0.75, 1 - 0.2 * (300 / max(steps, 1)) ** 0.4))
            return {"name": "muon", "learning_rate": 0.015, "table_rate": 0.012, "vector_rate": 0.012,
                    "momentum": round(momentum, 3), "iterations": ITERATIONS}  # fmt: skip
        case "adamw":
            return {"name": "adamw", "learning_rate": 0.003 * (128 / shape.width) ** 0.5}
    return {"name": optimiser}


def schedule(name: str) -> dict[str, float | str]:
    """Settings of a schedule, its name included."""
    return {"name": "wsd", "warmup": 0.02, "decay": 0.5} if name == "wsd" else {"name": name}
