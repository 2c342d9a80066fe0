"""Bits per byte: what a model needs to write down a text, whatever its tokenizer; lower is better.

Text of one byte in eight bits costs 8.0; gzip needs about 3 for English prose. Unlike perplexity by token it compares models
with different tokenizers, because a byte is a byte for both.
"""

import math

from danlu.metrics import METRICS


@METRICS.register
def bits_per_byte(nats: float, byte_count: int) -> float:
    """Summed surprise in nats over the UTF-8 bytes of the text, in bits per byte.

    Raises ValueError for text without bytes.

    >>> round(bits_per_byte(nats=11.090354888959125, byte_count=8), 3)
    2.0
    """
    if byte_count <= 0:
        raise ValueError(f"bits per byte of {byte_count} bytes is not defined; give a text with at least one byte")
    return nats / math.log(2) / byte_count
