"""Quantities read back as they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from danlu.core.settings import Settings
from danlu.core.units import Budget, Bytes, count, duration, size


@given(
    st.builds(Budget, st.floats(1e-3, 1e20).map(lambda x: float(f"{x:.12g}")), st.sampled_from(["seconds", "tokens", "flops"]))
)
def test_a_budget_survives_being_written_and_read(budget):
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90s", 90, "seconds"), ("3m", 180, "seconds"), ("2h", 7200, "seconds"), ("1.5 hours", 5400, "seconds"),
        ("1d", 86400, "seconds"), ("20min", 1200, "seconds"), ("400k tokens", 4e5, "tokens"), ("400ktokens", 4e5, "tokens"),
        ("5 tokens", 5, "tokens"), ("500M tokens", 5e8, "tokens"), ("2b tokens", 2e9, "tokens"), ("1e16 flops", 1e16, "flops"),
        ("1e16flops", 1e16, "flops"), ("3 pflops", 3e15, "flops"),
        *((text, None, None) for text in ("90", "0m", "-3m", "", "three minutes", "3 parsecs", "1e999s")),
    ],
)  # fmt: skip
def test_budgets_as_people_write_them(text, amount, unit):
    if amount is None:
        with pytest.raises(ValueError, match="budget"):
            Budget.parse(text)
    else:
        assert Budget.parse(text) == Budget(float(amount), unit)


@given(st.integers(1, 10**15))
def test_plain_bytes_are_themselves(number):
    assert Bytes.parse(number).count == number == Bytes.parse(f"{number} B").count


@pytest.mark.parametrize(
    ("text", "number"), [("512MB", 512 * 10**6), ("1.5GiB", 3 * 2**29), ("2k", 2000), ("7 KiB", 7168), ("3t", 3 * 10**12)]
)
def test_bytes_as_people_write_them(text, number):
    assert Bytes.parse(text).count == number


@pytest.mark.parametrize("text", ["", "-5", "0", "5 parsecs", "many"])
def test_amounts_that_are_none_are_refused_with_the_accepted_forms(text):
    with pytest.raises(ValueError, match="512MB"):
        Bytes.parse(text)


def test_a_setting_of_each_kind_keeps_its_value_through_a_recipe():
    class Spend(Settings):
        budget: Budget
        memory: Bytes

    spend = Spend(budget="3m", memory="1.5GiB")
    assert Spend(**spend.model_dump(mode="json")) == spend
    with pytest.raises(ValidationError, match="above zero"):
        Spend(budget="-3m", memory=5)


@given(st.floats(0, 1e7))
def test_a_duration_in_words_is_within_a_second(seconds):
    words = duration(seconds)
    amounts = dict.fromkeys("hms", 0.0)
    number = ""
    for letter in words:
        if letter in "hms":
            amounts[letter], number = float(number), ""
        else:
            number += letter
    assert abs(amounts["h"] * 3600 + amounts["m"] * 60 + amounts["s"] - seconds) <= 0.5 + 1e-6


@given(st.floats(0, 9e14), st.sampled_from([(count, ["", "k", "M", "B", "T"]), (size, [" B", " kB", " MB", " GB", " TB"])]))
def test_words_for_numbers_keep_three_digits(number, words):
    write, units = words
    text = write(number)
    factor = next(1000**i for i, unit in reversed(list(enumerate(units))) if text.endswith(unit))
    digits = text.rstrip("".join(units))
    assert abs(float(digits) * factor - number) <= 0.005 * number + 1e-9
