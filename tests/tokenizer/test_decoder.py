"""Streaming: only whole characters come out, and nothing is lost or invented."""

from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.tokenizer.decoder import ByteDecoder, PieceDecoder


def single_bytes():
    return ByteDecoder(lambda number: bytes([number]))


def test_a_character_appears_with_its_last_byte():
    decoder = single_bytes()
    assert [decoder.push(byte) for byte in "é中😀".encode()] == ["", "é", "", "", "中", "", "", "", "😀"]
    assert decoder.flush() == ""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30))
def test_any_bytes_stream_to_what_they_decode_to_at_once(data):
    decoder = single_bytes()
    assert "".join(map(decoder.push, data)) + decoder.flush() == data.decode("utf-8", "replace")


def test_an_unfinished_character_is_shown_at_the_end_only():
    decoder = single_bytes()
    assert [decoder.push(byte) for byte in "a中".encode()[:3]] == ["a", "", ""]
    assert decoder.flush() == "\ufffd"


def test_pieces_that_change_with_their_neighbours_are_told_once():
    words = ["one", "two", "##ling", "\ufffd", "three"]

    def decode(ids):
        return " ".join(words[number] for number in ids).replace(" ##", "")

    decoder = PieceDecoder(decode)
    ids = [0, 1, 2, 3, 4, 0]
    told = [decoder.push(number) for number in ids]
    assert "".join(told) + decoder.flush() == decode(ids)
    assert told[3] == ""
