"""Numbers are read exactly, in the forms in which people, models and LaTeX write them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.metrics.numbers import answer_number, chinese_number, near, numbers


def spoken(value):
    """A whole number in Chinese, built from the rules of the language and not from the reader's."""
    digits = "零一二三四五六七八九"

    def thousands(part):
        text, hole = "", False
        for place, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
            digit = part // place % 10
            if digit:
                text += ("零" if hole and text else "") + digits[digit] + unit
            hole = digit == 0
        return text

    if value == 0:
        return "零"
    text, gap = "", False
    for place, unit in ((10**8, "亿"), (10**4, "万"), (1, "")):
        part = value // place % 10**4
        if part:
            text += ("零" if text and (gap or part < 1000) else "") + thousands(part) + unit
            gap = False
        elif text:
            gap = True
    return text


@given(st.integers(0, 10**12 - 1))
def test_chinese_numerals_are_read_as_they_are_spoken(value):
    assert chinese_number(spoken(value)) == value
    assert numbers(f"一共有{spoken(value)}个", chinese=True)[-1] == value


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_decimals_with_and_without_thousands_separators_are_exact(whole, places):
    value = Fraction(whole, 10**places)
    written = f"{abs(whole) // 10**places:,}" + (f".{abs(whole) % 10**places:0{places}d}" if places else "")
    text = f"it is {'-' if whole < 0 else ''}{written}."
    assert numbers(text) == numbers(text.replace(",", "")) == [value]


@given(st.integers(-99, 99), st.integers(1, 99))
def test_fractions_are_exact_plain_and_in_latex(above, below):
    assert numbers(f"{above}/{below}") == [Fraction(above, below)]
    sign = "-" if above < 0 else ""
    assert numbers(rf"\boxed{{{sign}\frac{{{abs(above)}}}{{{below}}}}}") == [Fraction(above, below)]


@pytest.mark.parametrize(("text", "found"), [
    ("$1,234.50", ["1234.5"]), ("1{,}234", ["1234"]), ("１２，３４５", ["12345"]), ("有3，又有456", ["3", "456"]),
    ("x=−7", ["-7"]), ("5-3", ["5", "3"]), ("5 - 3", ["5", "3"]), ("-$5", ["-5"]), ("2\\times10^{3}", ["2000"]),
    ("3 × 10^-2", ["0.03"]), ("1.5e3", ["1500"]), ("3 1/2", ["7/2"]), ("3½", ["7/2"]), ("\\frac12", ["1/2"]),
    ("2\\frac{1}{2}", ["5/2"]), ("50%", ["50"]),
    ("1/0", []), ("1e999999999", []), ("9" * 2000, []), ("none", []), ("2024/1/2", ["2024", "2"]), (".5", ["1/2"]),
    ("42.", ["42"]), ("1,23", ["1", "23"]), ("٣", []),
])  # fmt: skip
def test_worked_examples(text, found):
    assert numbers(text) == [Fraction(one) for one in found]


@pytest.mark.parametrize(("text", "found"), [
    ("三万五千", ["35000"]), ("3万5千", ["35000"]), ("1.5万亿", ["1500000000000"]), ("百分之十二点五", ["12.5"]),
    ("五分之三", ["3/5"]), ("一万亿", [str(10**12)]), ("两百", ["200"]),
    ("负二", ["-2"]), ("十分好", []), ("十分钟", ["10"]), ("廿", []), ("叁佰", ["300"]), ("12个", ["12"]),
    ("二〇二五年", ["2025"]),
])  # fmt: skip
def test_worked_examples_in_chinese(text, found):
    assert numbers(text, chinese=True) == [Fraction(one) for one in found]


@pytest.mark.parametrize(("text", "mark", "found"), [
    ("1\n#### 2\n3", "", "2"), ("\\boxed{1} no: #### 2", "", "2"), ("#### 2, I mean \\boxed{3}", "", "3"),
    ("#### nothing 1", "", "1"),
    ("#### \n7", "", "7"), ("#### none", "", None), ("\\boxed{\\text{cm}}", "", None), ("a 1 b 2 c", "", "2"), ("", "", None),
    ("答案是 5，因为 6", "答案是", "5"), ("5", "=", None), ("\\boxed{3", "", "3"), ("\\boxed{1} or \\boxed{{2}} of 3", "", "2"),
])  # fmt: skip
def test_the_answer_stands_behind_the_last_mark(text, mark, found):
    assert answer_number(text, mark=mark) == (None if found is None else Fraction(found))


def test_nearness_is_relative_above_one_and_absolute_below():
    assert near(Fraction("0.5001"), Fraction("0.5"), 1e-3) and not near(Fraction("0.51"), Fraction("0.5"), 1e-3)
    assert near(Fraction(1001), Fraction(1000), 1e-3) and not near(Fraction(1002), Fraction(1000), 1e-3)
