"""How low a loss to expect from sizes, a vocabulary and an amount of text; which rates go with it.

A sum as in Hoffmann et al. 2022 (arXiv:2203.15556), section 3.3, with its exponents for weights and text, which short runs
cannot tell: what remains, what too few weights lose, what too little text loses; and what too few steps lose, and a
vocabulary that is too small or too large. Text counts in bytes, so that vocabularies compare. The other constants are fitted
to 73 of our own runs in two languages and in code, of 30,000 to 7 million weights and 12 to 60 seconds (LOG.md; 2.4 % root
mean square up to a factor for each text, which moves no choice). Repeated text counts less each time (Muennighoff et al.
2023, arXiv:2305.16264).
"""

import math

from danlu.train.cost import Shape
from danlu.train.plan import Corpus

REMAINING = 1.16
"""Bits per byte that neither weights nor text remove, in English of ordinary difficulty."""
CAPACITY, CAPACITY_POWER = 0.135, 0.34
"""Share lost to few weights: CAPACITY / (million weights) ** CAPACITY_POWER."""
TABLE_WEIGHT = 0.3
"""What a weight of the embedding or the head counts for, against one in a layer."""
LEARNING, LEARNING_POWER = 0.535, 0.28
"""Share lost to little text: LEARNING / (million bytes read) ** LEARNING_POWER."""
MOVING, MOVING_POWER = 0.014, 1.2
"""Share lost to few steps: MOVING / (steps / 300) ** MOVING_POWER."""
VOCABULARY, VOCABULARY_GROWTH, VOCABULARY_COST = 3300, 0.2, 0.01
"""Best vocabulary after 3 million bytes, the power of the bytes by which it grows (arXiv:2407.13623), and what the square of
the logarithm of the distance from it costs."""
ROWS = 0.018
"""Share lost at 300,000 tokens to each doubling of a row beyond 128 tokens: those of a row resemble each other."""
CONTEXT = 0.006
"""Share that longer rows gain, by the logarithm of their tokens."""
DEPTH = 0.02
"""Share lost to few layers: DEPTH / layers. Equal weights in more layers ended lower in most of our runs."""
REPEATS, EXCESS = 3.9, 0.1
"""Passes over the same text after which another teaches almost nothing: REPEATS in models with far fewer weights than the text
has tokens, divided by 1 + EXCESS * weights for each token. Fitted to how our runs of one, three and ten minutes rank, whose
tables forget (LOG.md; up to 17 weights a token); far larger models are worth 15 passes (Muennighoff et al., table 2)."""
USED_UP = 16
"""Passes after which hardly a fiftieth of what repetition can give is still to come."""
FORGETTING = 2.0
"""Rate times decay of the tables over each pass through the text after the first: 2 shrink a weight that nothing moves to a
seventh. With half as much or 1.5 times as much our runs ended within 1.2 % (LOG.md)."""
MOST_FORGETTING, LEARNT_WHOLE = 0.04, 500_000
"""Most of that at one step, however short a pass (our runs tried no more); and the bytes of text below which it is less, in
proportion: a few pages can only be learned by heart, and tables that forget them leave a model that adapters move badly."""
ITERATIONS = 4
"""Steps of Muon's iteration: a fifth changes nothing that can be measured."""


def bits_per_byte(shape: Shape, tokens: float, step_tokens: int, row_tokens: int, corpus: Corpus) -> float:
    """Held-out bits per byte to expect after `tokens` tokens in steps of `step_tokens`, in rows of `row_tokens`."""
    token_bytes = corpus.bytes_per_token[shape.vocab]
    repeats = REPEATS / (1 + EXCESS * shape.parameters * token_bytes / corpus.train_bytes)
    megabytes = worth(tokens * token_bytes, corpus.train_bytes, repeats) / 1e6
    weights = shape.matrices + TABLE_WEIGHT * (shape.parameters - shape.matrices - shape.idle)
    lost = CAPACITY / (weights / 1e6) ** CAPACITY_POWER + LEARNING / megabytes**LEARNING_POWER
    lost += MOVING / (tokens / step_tokens / 300) ** MOVING_POWER
    longer = math.log(row_tokens / 128)
    lost += ROWS * max(longer, 0.0) / math.log(2) * min(1.0, 3e5 / tokens) - CONTEXT * longer
    lost += DEPTH / shape.layers
    return REMAINING * (1 + lost) * math.exp(VOCABULARY_COST * math.log(shape.vocab / best_vocabulary(megabytes)) ** 2)


def best_vocabulary(megabytes: float) -> float:
    """Tokens of the vocabulary that ends lowest, other things equal, after so many million bytes of text.

    >>> [round(best_vocabulary(size)) for size in (0.3, 3, 300)]
    [2082, 3300, 8289]
    """
    return VOCABULARY * (megabytes / 3) ** VOCABULARY_GROWTH


def worth(bytes_read: float, train_bytes: float, repeats: float = REPEATS) -> float:
    """Fresh bytes that `bytes_read` bytes of a text of `train_bytes` are worth, repetition included.

    >>> worth(500.0, 1000.0), round(worth(4000.0, 1000.0)), round(worth(1e9, 1000.0))
    (500.0, 3093, 4900)
    >>> round(worth(4000.0, 1000.0, repeats=1.25))
    2137
    """
    fresh = min(bytes_read, train_bytes)
    repeated = bytes_read / fresh - 1
    return fresh * (1 + repeats * (1 - math.exp(-repeated / repeats)))


def rates(optimiser: str, steps: int, shape: Shape, forgetting: float = 0.0) -> dict[str, float | int | str]:
    """Settings of an optimiser for a run of `steps` steps, its name included; `forgetting`: rate times decay of its tables.

    Short runs want short memories: Muon's momentum averages a share of the run, no more (docs/decisions/0061). Text that
    comes again is learned by heart in the tables first: so they forget, the more the oftener it comes (0199).
    """
    match optimiser:
        case "muon":
            momentum, rate = min(0.95, max(0.75, 1 - 0.2 * (300 / max(steps, 1)) ** 0.4)), 0.015
            return {"name": "muon", "learning_rate": rate, "table_rate": rate, "vector_rate": rate,
                    "momentum": round(momentum, 3), "iterations": ITERATIONS,
                    "table_decay": round(forgetting / rate, 3)}  # fmt: skip
        case "adamw":
            rate = 0.003 * (128 / shape.width) ** 0.5
            return {"name": "adamw", "learning_rate": rate, "table_decay": round(forgetting / rate, 3)}
    return {"name": optimiser}


def forgetting(epochs: float, steps: int, train_bytes: int) -> float:
    """Rate times decay of the tables at each of `steps` steps that read a text `epochs` times.

    >>> forgetting(1.0, 400, 10**6), forgetting(5.0, 400, 10**6), forgetting(50.0, 400, 10_000)
    (0.0, 0.02, 0.0008)
    """
    most = FORGETTING * max(epochs - 1, 0.0) / max(steps, 1)
    return min(most, MOST_FORGETTING) * min(1.0, train_bytes / LEARNT_WHOLE)


def schedule(name: str) -> dict[str, float | str]:
    """Settings of a schedule, its name included."""
    return {"name": "wsd", "warmup": 0.02, "decay": 0.5} if name == "wsd" else {"name": name}


def rope_theta(row_tokens: int) -> float:
    """Base of the rotary wavelengths: short rows waste the slow ones of the usual 10,000 (0.6 % at 128 tokens)."""
    return float(max(1000, 8 * row_tokens))
