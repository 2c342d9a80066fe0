"""Where words begin, in any script, with and without a dictionary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.errors import MissingExtra
from danlu.data import word_begins as module
from danlu.data.word_begins import codes_of, widths_of, word_begins


def cut(text, han="characters", phase=0):
    begins = word_begins(codes_of(text.encode()), han, phase)
    return "".join("|" * int(begin) + letter for letter, begin in zip(text, begins, strict=True)).split("|")[1:]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("the cat sat", ["the", " cat", " sat"]),
        ("x = a_1+22;", ["x", " =", " a_1", "+", "22", ";"]),
        ("a\n\n    b", ["a", "\n\n", "   ", " b"]),
        ("don't...", ["don", "'", "t", ".", ".", "."]),
        ("丹炉 fire火", ["丹", "炉", " fire", "火"]),
        ("tab\tend \n", ["tab", "\tend", " ", "\n"]),
    ],
)
def test_examples(text, parts):
    assert cut(text) == parts


def test_han_pairs_up_by_phase_in_each_run():
    assert cut("一二三四五，六七", "bigrams", 0) == ["一二", "三四", "五", "，", "六七"]
    assert cut("一二三四五，六七", "bigrams", 1) == ["一", "二三", "四五", "，", "六", "七"]


def test_han_words_come_from_the_dictionary():
    rjieba = pytest.importorskip("rjieba")
    text = "我在北京大学读书，明天下雨。"
    assert cut(text, "words") == [
        word for part in ("我在北京大学读书", "，", "明天下雨", "。") for word in rjieba.cut(part, False)
    ]
    assert "北京大学" in cut(text, "words")


def test_without_the_dictionary_its_name_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rjieba", None)
    module.cutter.cache_clear()
    with pytest.raises(MissingExtra, match=r"danlu\[zh\]"):
        cut("北京", "words")
    module.cutter.cache_clear()


@given(st.text(max_size=40), st.sampled_from(["words", "bigrams", "characters"]), st.integers(0, 1))
def test_any_text_is_cut_without_loss_and_never_inside_letters(text, han, phase):
    text = text.encode("utf-8", "ignore").decode()
    codes = codes_of(text.encode())
    assert widths_of(codes).sum() == len(text.encode()) and len(codes) == len(text)
    if text:
        begins = word_begins(codes, han, phase)
        assert begins[0]
        letters = np.array([letter.isalnum() and letter.isascii() for letter in text])
        assert not (begins[1:] & letters[1:] & letters[:-1]).any()


def test_bytes_of_a_cut_character_are_counted_one_by_one_and_stay_together():
    data = "炉a火".encode()[1:-1]
    codes = codes_of(data)
    assert widths_of(codes).tolist() == [1, 1, 1, 1, 1]
    assert word_begins(codes).tolist() == [True, False, True, True, False]
