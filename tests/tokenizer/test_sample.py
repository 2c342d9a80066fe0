"""The even sample: within its bytes, spread over the whole text, and every document accounted for."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from danlu.tokenizer.sample import EvenSample


@dataclass
class Doc:
    text: str
    source: str = "a"


SIZES = st.lists(st.integers(0, 50), max_size=60)


@given(SIZES, st.integers(0, 2000))
def test_the_ledger_adds_up_and_the_limit_holds(sizes, most):
    sample = EvenSample(sum(sizes), most)
    taken = list(sample.of(Doc("x" * size, "ab"[size % 2]) for size in sizes))
    rows = sample.ledger.values()
    assert sum(row["documents"] for row in rows) == len(sizes)
    assert sum(row["bytes"] for row in rows) == sum(sizes)
    assert all(row[unit] == row[f"used_{unit}"] + row[f"left_out_{unit}"] for row in rows for unit in ("documents", "bytes"))
    assert sum(len(document.text) for document in taken) == sum(row["used_bytes"] for row in rows) <= max(most, 0)


@given(SIZES)
def test_everything_is_taken_where_there_is_room(sizes):
    assert len(list(EvenSample(sum(sizes), sum(sizes)).of(Doc("x" * size) for size in sizes))) == len(sizes)


def test_the_sample_is_spread_evenly():
    sample = EvenSample(7_000, 700)
    places = [at for at in range(1_000) if sample.take(7)]
    assert len(places) == 100
    assert all(sum(start <= at < start + 100 for at in places) == 10 for start in range(0, 1_000, 100))
