"""Bits per byte against counts made by hand."""

import math

import pytest

from danlu.metrics import METRICS
from danlu.metrics.bits_per_byte import bits_per_byte


def test_a_uniform_model_over_bytes_needs_eight_bits_a_byte():
    text = "丹炉 furnace".encode()
    assert bits_per_byte(len(text) * math.log(256), len(text)) == pytest.approx(8.0)


def test_the_tokenizer_does_not_matter():
    """The same text with the same probability costs the same, cut into two tokens or into five."""
    probability = 1 / 4096  # 12 bits
    assert bits_per_byte(-math.log(probability), 6) == pytest.approx(2.0)
    assert bits_per_byte(sum(-math.log(probability ** (1 / 5)) for _ in range(5)), 6) == pytest.approx(2.0)


def test_text_without_bytes_is_refused():
    with pytest.raises(ValueError, match="at least one byte"):
        bits_per_byte(1.0, 0)


def test_the_shelf_lists_metrics_and_not_their_helpers():
    assert {"bits_per_byte", "perplexity"} <= set(METRICS.names())
    assert "interval" not in METRICS.names()
