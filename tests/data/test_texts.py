import numpy as np
import pytest
from tests.data.hostile import HOSTILE, noise

from danlu.data import plain
from danlu.data.letters import kind, kinds_of, lower
from danlu.data.texts import Repeats, Texts

ALL = [*HOSTILE, *noise(0, 60)]


def cut(texts, spans, document):
    found = range(spans.offsets[document], spans.offsets[document + 1])
    shift = texts.starts[document]
    return [texts.texts[document][spans.starts[i] - shift : spans.ends[i] - shift] for i in found]


def test_kinds_are_those_of_the_definition():
    letters = [
        chr(code)
        for code in (
            *range(0x3200),
            *range(0xFE00, 0x10100),
            0x4E00,
            0x9FFF,
            0xD7A3,
            0x1F004,
            0x20000,
            0x323AF,
            0x323B0,
            0x10FFFF,
        )
    ]
    codes = np.array([ord(letter) for letter in letters], np.uint32)
    assert kinds_of(codes).tolist() == [kind(letter) for letter in letters]


@pytest.mark.parametrize(("fast", "slow"), [("words", plain.words), ("lines", plain.lines), ("paragraphs", plain.paragraphs)])
def test_spans_are_those_of_the_plain_twin(fast, slow):
    texts = Texts(ALL)
    for document, text in enumerate(ALL):
        found = cut(texts, getattr(texts, fast), document)
        assert ([plain.lowered(word) for word in found] if fast == "words" else found) == slow(text), repr(text)


def test_equal_text_has_equal_hashes_wherever_it_stands_and_other_text_others():
    texts = Texts(ALL)
    hashes = {}
    for document in range(len(ALL)):
        for at, word in zip(
            range(texts.words.offsets[document], texts.words.offsets[document + 1]), plain.words(ALL[document]), strict=True
        ):
            hashes.setdefault(word, set()).add(int(texts.words.hashes[at]))
    assert all(len(found) == 1 for found in hashes.values())
    assert len({next(iter(found)) for found in hashes.values()}) == len(hashes)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_shingles_are_equal_exactly_where_the_word_sequences_are(n):
    texts = Texts(ALL)
    shingles, offsets = texts.shingles(n)
    by_gram, by_hash = {}, {}
    for document, text in enumerate(ALL):
        words = plain.words(text)
        grams = plain.grams(words, n) or ([tuple(words)] if words else [])
        found = shingles[offsets[document] : offsets[document + 1]].tolist()
        assert len(found) == len(grams)
        for gram, value in zip(grams, found, strict=True):
            assert by_gram.setdefault(gram, value) == value
            assert by_hash.setdefault(value, gram) == gram


def test_repeats_are_those_of_the_plain_twin():
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 3, 7, 500):
        items = rng.integers(0, 50, count).astype(np.uint64)
        owner = np.sort(rng.integers(0, 5, count))
        pairs = list(zip(owner.tolist(), items.tolist(), strict=True))
        repeats = Repeats(items, owner)
        assert repeats.early.tolist() == plain.repeated(pairs)
        assert repeats.shared.tolist() == [pairs.count(pair) > 1 for pair in pairs]
        groups = {
            pairs[first]: (first, times) for first, times in zip(repeats.first.tolist(), repeats.times.tolist(), strict=True)
        }
        assert groups == {pair: (pairs.index(pair), pairs.count(pair)) for pair in pairs if pairs.count(pair) > 1}


def test_lower_case_keeps_the_length_of_every_letter():
    assert all(len(lower(chr(code))) == 1 for code in range(0x20000) if not 0xD800 <= code < 0xE000)
