import os

import pytest

from danlu.data.decode import Unreadable, decode, detect

CHINESE = "丹炉里的火候要慢慢来，这是一个老师傅说的话。他在山上住了三十年，没有人知道他的名字。"
TRADITIONAL = "煉丹爐裡的火候要慢慢來，這是一個老師傅說的話。他在山上住了三十年，沒有人知道他的名字。"
ENGLISH = "The fire under the crucible wants patience, said the old master. Nobody knew his name.\n" * 2
FRENCH = "Le café crème était très léger, où l'élève déjà fatigué révisait ses leçons d'été.\n" * 3


@pytest.mark.parametrize("text", [CHINESE, TRADITIONAL, ENGLISH, FRENCH, "", "x"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_with_a_mark_or_in_utf8_comes_back(text, codec):
    assert decode(text.encode(codec)) == text


@pytest.mark.parametrize("text", [CHINESE, TRADITIONAL, ENGLISH, CHINESE[:20] + ENGLISH])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_told_by_its_letters(text, codec):
    assert decode(text.encode(codec)) == text


@pytest.mark.parametrize(
    ("text", "codec"), [(CHINESE, "gb18030"), (TRADITIONAL, "big5"), (TRADITIONAL, "gb18030"), (FRENCH, "cp1252")]
)
def test_old_encodings_are_told_apart(text, codec):
    assert detect(text.encode(codec)) == codec
    assert decode(text.encode(codec)) == text


def test_a_sample_may_end_in_the_middle_of_a_character():
    for codec in ("utf-8", "gb18030"):
        assert detect(CHINESE.encode(codec)[:-1], whole=False) == codec


@pytest.mark.parametrize(
    "data", [os.urandom(4000), b"\x7fELF\x02\x01\x01" + bytes(200), b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 3]
)
def test_binary_is_refused_with_a_reason(data):
    with pytest.raises(Unreadable, match=r"binary|no known encoding"):
        decode(data)
