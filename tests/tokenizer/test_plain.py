"""The plain byte-pair encoding is the definition: the fast trainers learn its merges, the fast engines give its ids."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokenizer.texts import HOSTILE, corpus

from danlu.tokenizer import plain
from danlu.tokenizer.definition import byte_characters
from danlu.tokenizer.patterns import PATTERNS
from danlu.tokenizer.trainers.bpe import ByteLevelBPE, _rustbpe, _tokenizers

WORDS = st.lists(st.text("abc 中文\n", min_size=1, max_size=12), min_size=1, max_size=8)
BY_CHARACTER = sorted(range(256), key=lambda byte: byte_characters()[byte])
"""The order in which `tokenizers` breaks ties between single bytes."""


def test_worked_example_of_the_paper():
    """Sennrich et al. 2016, section 3.2: the words low, lower, newest, widest with counts 5, 2, 6, 3 (without their end mark)."""
    texts = ["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3
    merges = plain.train(texts, 4, r"[a-z]+")
    assert merges == [(b"e", b"s"), (b"es", b"t"), (b"l", b"o"), (b"lo", b"w")]


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_rustbpe_learns_the_plain_merges_ties_included(texts):
    assert _rustbpe(texts, 30, PATTERNS["danlu"]) == plain.train(texts, 30, PATTERNS["danlu"])


@settings(max_examples=60, deadline=None)
@given(WORDS)
def test_tokenizers_learns_the_plain_merges_under_its_own_order_of_bytes(texts):
    assert _tokenizers(texts, 30, PATTERNS["danlu"]) == plain.train(texts, 30, PATTERNS["danlu"], BY_CHARACTER)


@pytest.mark.parametrize("pattern", ["danlu", "gpt2", "gpt4"])
def test_rustbpe_learns_the_plain_merges_of_real_text(pattern):
    texts = corpus(12_000)
    assert _rustbpe(texts, 150, PATTERNS[pattern]) == plain.train(texts, 150, PATTERNS[pattern])


@pytest.mark.parametrize("pattern", ["danlu", "gpt2", "gpt4"])
def test_plain_fast_and_reference_engines_give_the_same_ids(pattern):
    tokenizer = ByteLevelBPE(ByteLevelBPE.Config(pattern=pattern)).train(corpus(12_000), vocab_size=400)
    merges = plain.train(corpus(12_000), 400 - 259, PATTERNS[pattern])
    assert tokenizer.engine.name == "tiktoken"
    for text in [*(text[:700] for text in HOSTILE.values()), *corpus()[:3]]:
        expected = plain.encode(text, merges, PATTERNS[pattern])
        ids = tokenizer.encode(text)
        assert [tokenizer.token_bytes(number) for number in ids] == expected
        if "<|" not in text:
            assert tokenizer.reference.encode(text).ids == ids


@settings(max_examples=40, deadline=None)
@given(WORDS)
def test_each_merge_was_the_most_frequent_pair_when_it_was_learned(texts):
    merges = plain.train(texts, 12, PATTERNS["danlu"])
    for at, merge in enumerate(merges):
        pairs = Counter()
        for text in texts:
            for piece in plain.cut(text, PATTERNS["danlu"]):
                tokens = plain.encode(piece.decode(), merges[:at], r"[\s\S]+")
                pairs.update(pairwise(tokens))
        assert pairs[merge] == max(pairs.values())
