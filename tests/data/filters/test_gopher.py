import numpy as np
import pytest

from danlu.data.filters.gopher import Gopher
from danlu.data.filters.repetition import Repetition
from danlu.data.texts import Texts

ENGLISH = "The old clock in the hall struck nine, and nobody in the house was surprised that it was wrong again. " * 1
CHINESE = "老钟在大厅里敲了九下，屋里没有人觉得奇怪，因为它又走错了，这是常有的事。"


def dropped(filter, text):
    signals = filter.measure(Texts([text]))
    return [rule.name for rule in filter.rules() if rule.drops(np.array([signals[rule.signal][0]]))[0]]


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        CHINESE,
        "그는 이 집 이 것 을 보고 그 것 이 집 이라 고 말 을 하는 것",
        "Der alte Mann und das Meer ist nicht ein Buch mit sieben Siegeln, und das ist gut.",
    ],
)
def test_running_text_of_any_language_stays(text):
    assert dropped(Gopher(Gopher.Config()), text) == []
    assert dropped(Repetition(Repetition.Config()), text) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("too short", "words"),
        ("的 了 " + "I am a by to of it is at on " * 5, "mean_word_length"),
        ("#tag of the #tag and #tag with #tag " * 3 + "words", "hash_ratio"),
        ("Wait... what is... the matter... with... that... and so on", "ellipsis_ratio"),
        ("- the first of many\n- the second of many\n- the third of many\n- and so forth to the end", "bullet_lines"),
        ("the end is never...\nand the start was...\nfar from it...", "ellipsis_lines"),
        ("1 2 3 4 5 6 7 8 9 the of 12 13 14 15 16 17", "alphabetic_words"),
        ("lorem ipsum dolor amet consectetur adipiscing elit eiusmod tempor incididunt labore magna", "stop_words"),
    ],
)
def test_each_rule_names_its_kind_of_noise(text, rule):
    assert rule in dropped(Gopher(Gopher.Config()), text)


def test_chinese_counts_characters_as_words():
    signals = Gopher(Gopher.Config()).measure(Texts([CHINESE]))
    assert signals["words"][0] == sum("\u4e00" <= letter <= "\u9fff" for letter in CHINESE)
    assert np.isnan(signals["mean_word_length"][0])


def test_text_that_says_the_same_again_is_dropped_whatever_its_script():
    for text in (ENGLISH * 6, CHINESE * 6, (CHINESE + "\n") * 6):
        assert dropped(Repetition(Repetition.Config()), text)
