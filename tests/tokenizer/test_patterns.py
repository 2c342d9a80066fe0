"""Cutting text: every engine cuts alike, nothing is lost, and the cuts are where we say they are."""

import re
import sys

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokenizer.texts import HOSTILE, corpus

from danlu.core.errors import BadSettings
from danlu.tokenizer import patterns, plain
from danlu.tokenizer.engines import Tiktoken

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CUTTING = "".join(chr(code) for code in range(0x250)) + "中々〇，。　Ａ１あ한ש👍\u0301\u200d\u2028\ue000\U00020000"


def onig(text, pattern):
    from tokenizers import Regex, pre_tokenizers

    return [piece for piece, _ in pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(text)]


def tiktoken_cuts(text, pattern):
    """tiktoken does not show its cuts; a vocabulary in which each piece is a token makes them visible."""
    pieces = plain.cut(text, pattern)
    ids = {bytes([byte]): byte for byte in range(256)}
    for piece in pieces:
        ids.setdefault(piece, len(ids))
    engine = Tiktoken(ids, pattern)
    return engine.encode(text).tolist(), [ids[piece] for piece in pieces]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_four_engines_cut_hostile_text_alike(text):
    pattern = patterns.PATTERNS["danlu"]
    pieces = re.findall(pattern, text)
    assert "".join(pieces) == text
    assert regex.findall(pattern, text) == pieces
    assert onig(text, pattern) == pieces
    found, expected = tiktoken_cuts(text, pattern)
    assert found == expected


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(CUTTING), max_size=40))
def test_engines_cut_any_mixture_alike(text):
    pattern = patterns.PATTERNS["danlu"]
    pieces = re.findall(pattern, text)
    assert "".join(pieces) == text
    assert onig(text, pattern) == pieces
    found, expected = tiktoken_cuts(text, pattern)
    assert found == expected


def test_every_character_is_matched_alike_alone():
    pattern = re.compile(patterns.PATTERNS["danlu"])
    everything = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    lost = [character for character in everything if pattern.fullmatch(character) is None]
    assert lost == []
    lines = ["\n".join(everything[at : at + 2_000]) for at in range(0, len(everything), 2_000)]
    assert all(onig(line, pattern.pattern) == pattern.findall(line) for line in lines[::4])


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("the cat's paw", ["the", " cat", "'s", " paw"]),
        ("1234567", ["12", "34", "56", "7"]),
        ("camelCase snake_case.append(x)", ["camelCase", " snake", "_case", ".append", "(x", ")"]),
        ("if x:\n        y", ["if", " x", ":\n        ", "y"]),
        ("a\n\n    b", ["a", "\n\n    ", "b"]),
        ("我们使用Python，很好。", ["我们使用", "Python", "，很好", "。"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
    ],
)
def test_text_is_cut_where_the_documentation_says(text, pieces):
    assert re.findall(patterns.PATTERNS["danlu"], text) == pieces


@settings(max_examples=60, deadline=None)
@given(TEXT.map(lambda text: text * 5))
def test_no_piece_is_longer_than_its_bound(text):
    assert all(len(piece) <= 82 for piece in re.findall(patterns.PATTERNS["danlu"], text))


def test_our_pattern_needs_no_more_tokens_than_the_published_ones():
    """The reason for having one of our own, on the corpus of these tests: per language and at equal size (see LOG.md)."""
    from danlu.tokenizer.trainers.bpe import ByteLevelBPE

    texts = corpus(120_000)
    used = {
        name: sum(map(len, ByteLevelBPE(ByteLevelBPE.Config(pattern=name)).train(texts, vocab_size=1500).encode_batch(texts)))
        for name in ("danlu", "gpt2", "gpt4")
    }
    assert used["danlu"] <= min(used["gpt2"], used["gpt4"])


@pytest.mark.parametrize(("pattern", "said"), [("[a-z", "nor a regular expression"), (r"\w+", "every character must match")])
def test_a_pattern_that_is_broken_or_loses_text_is_refused(pattern, said):
    with pytest.raises(BadSettings, match=said):
        patterns.resolve(pattern)


def test_an_own_pattern_is_taken_as_it_is():
    assert patterns.resolve(r"\w+|\W") == r"\w+|\W"
