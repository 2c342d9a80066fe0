"""Stop texts: however the text is cut into pieces, the answer is what a search in the whole text gives."""

from hypothesis import given
from hypothesis import strategies as st

from danlu.engine.stop import StopWatch


def plain(text, stops):
    """Cut the whole text at the first place where any stop begins."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


def streamed(pieces, stops):
    watch, shown = StopWatch(stops), ""
    for piece in pieces:
        shown += watch.push(piece)
        if watch.found is not None:
            return shown
    return shown + watch.flush()


@given(st.lists(st.text("abE\n", max_size=3), max_size=9), st.lists(st.text("abE\n", min_size=1, max_size=4), max_size=3))
def test_streaming_equals_a_search_in_the_whole_text(pieces, stops):
    got, whole = streamed(pieces, stops), "".join(pieces)
    cut = plain(whole, stops)
    # a stop that ends earlier is seen first, though a longer one that began before it might have been completed later
    assert got == cut or (whole.startswith(got) and any(whole[len(got) :].startswith(stop) for stop in stops))


def test_nothing_is_held_back_longer_than_needed():
    watch = StopWatch(["\n\n"])
    assert [watch.push(piece) for piece in ("one", "\n", "two", "\n", "\n")] == ["one", "", "\ntwo", "", ""]
    assert watch.found == "\n\n"
    assert watch.push("more") == "" == watch.flush()


def test_no_stops_hold_nothing():
    watch = StopWatch([])
    assert watch.push("text") == "text" and watch.found is None
