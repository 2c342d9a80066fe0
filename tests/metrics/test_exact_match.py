"""Texts that differ in width, case, blanks and marks match; texts that differ in what they say do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.metrics.exact_match import exact_match, plain

TEXT = st.text(alphabet=st.sampled_from('aBç１2，,。. 丹炉“”"!？-  \t\n'), max_size=20)


@given(TEXT, st.booleans(), st.booleans())
def test_what_is_plain_stays_as_it_is(text, case, punctuation):
    once = plain(text, case=case, punctuation=punctuation)
    assert plain(once, case=case, punctuation=punctuation) == once
    assert exact_match(text, [once], case=case, punctuation=punctuation) == 1.0


@given(TEXT, TEXT)
def test_matching_is_equality_of_the_plain_texts(one, two):
    assert exact_match(one, [two]) == exact_match(two, [one]) == float(plain(one) == plain(two))


@pytest.mark.parametrize(("said", "true", "match"), [
    ("１２３４", "1234", 1), ("丹 炉", "丹炉", 1), ("丹炉。", "丹炉.", 1), ("a, b", "a,b", 1), ("ab", "a b", 0),
    ("丹炉!", "丹炉", 0), ("丹炉！", "丹炉!", 1),
    ("Paris", "paris", 1), ("不是", "是", 0), ("−5", "-5", 1), ("-5", "5", 0), ("“真”", '"真"', 1), ("", "", 1), ("", "x", 0),
])  # fmt: skip
def test_worked_examples(said, true, match):
    assert exact_match(said, [true]) == match


def test_case_and_punctuation_count_on_demand_and_any_reference_will_do():
    assert exact_match("Paris", ["paris"], case=True) == 0.0
    assert exact_match("巴黎！", ["巴黎"], punctuation=False) == 1.0
    assert exact_match("x", ["y", "X"]) == 1.0 and exact_match("x", []) == 0.0
