"""The mechanics of Weizenbaum's paper, on sentences of our own: ranks, clauses, taking apart, putting together, memory."""

import re
from pathlib import Path

import pytest

from danlu.apps.eliza import CHINESE, ENGLISH, NEXT, Eliza


def talk(*lines):
    doctor = Eliza()
    return [doctor.answer(line) for line in lines]


def test_the_keyword_of_the_highest_rank_speaks_wherever_it_stands():
    computer = next(keyword for keyword in ENGLISH.keywords if "computer" in keyword.words)
    assert talk("I remember that my dream was about a computer") == [computer.patterns[0][1][0]]


def test_the_first_clause_with_a_keyword_is_heard_and_the_rest_is_not():
    assert talk("Rain again, I am sad, my computer broke") == talk("I am sad")


def test_answers_of_a_pattern_come_in_turn_and_then_again():
    pattern = next(keyword for keyword in ENGLISH.keywords if keyword.words.startswith("always")).patterns[0]
    assert talk(*["It is always cold"] * 5) == [*pattern[1], *pattern[1]][:5]


def test_what_was_said_comes_back_from_the_other_side():
    assert talk("I am afraid that I know you") == ["I am sorry to hear you are afraid."]
    assert talk("I know you") == ["Perhaps in your thoughts we know each other."]
    assert talk("My boss took my chair")[0] == "Your boss took your chair?"
    assert talk("You are kind to me") == ["What makes you think I am kind to you?"]


def test_memory_speaks_when_nothing_else_can_in_the_order_of_what_was_said():
    said = talk("My garden is dry", "My neighbour sings", "Hm", "Hm", "Hm")
    assert "your garden is dry" in said[2] and "your neighbour sings" in said[3]
    assert said[4] == ENGLISH.none[0]


def test_a_keyword_that_has_nothing_to_say_hands_over_to_the_next():
    """`remember` fits neither of its patterns, so `because`, of lower rank, answers."""
    because = next(keyword for keyword in ENGLISH.keywords if keyword.words == "because")
    assert talk("We remember because it hurt") == [because.patterns[0][1][0]]


def test_each_line_is_answered_in_its_own_language_and_memory_keeps_to_it():
    said = talk("我的工作很累", "Hm", "嗯")
    assert said[0] == "你的工作很累？" and said[1] == ENGLISH.none[0] and "你的工作很累" in said[2]
    assert talk("我记得你的话") == ["你常想起我的话吗？"]


def test_the_same_words_get_the_same_answers():
    lines = ["Hello", "I am tired", "my sister is here", "why?", "什么", "..."]
    assert talk(*lines) == talk(*lines)


@pytest.mark.parametrize("line", ["", "?", "\\1", "\\", "(((", "😀", "my", "I", "x" * 5000, "\x00", "我", "， 。"])
def test_any_line_gets_an_answer(line):
    assert talk(line)[0].strip()


@pytest.mark.parametrize("script", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_answers_ask_only_for_what_their_pattern_catches(script):
    for keyword in script.keywords:
        for pattern, answers in keyword.patterns:
            caught = re.compile(pattern).groups
            for answer in answers:
                assert answer == NEXT or all(int(number) <= caught for number in re.findall(r"\\(\d)", answer)), (pattern, answer)


def test_it_needs_nothing_but_python():
    import danlu.apps.eliza

    source = Path(danlu.apps.eliza.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)) == {"re", "collections", "dataclasses"}
