import unicodedata

import pytest
from tests.data.hostile import HOSTILE, noise

from danlu.data.editors import EDITORS

ALL = [text for text in (*HOSTILE, *noise(9, 20)) if "\x00" not in text] + [
    "Ｆｕｌｌ ｗｉｄｔｈ ﬁ ①",
    "cafe\u0301",
    "a\u00a0b  \n\n\n\n\nc \t\n",
]


@pytest.mark.parametrize("name", EDITORS.names())
def test_editing_twice_is_editing_once(name):
    editor = EDITORS.build(EDITORS[name].Config())
    for text in ALL:
        once = editor.edit(text)
        assert editor.edit(once) == once


@pytest.mark.parametrize("name", EDITORS.names())
def test_plain_ascii_prose_is_left_alone(name):
    text = "Nothing is wrong here.\n\nNothing at all."
    assert EDITORS.build(EDITORS[name].Config()).edit(text) == text


def edit(name, text, **settings):
    return EDITORS.build(EDITORS[name].Config(**settings)).edit(text)


def test_each_editor_does_what_its_name_says():
    assert edit("nfc", "cafe\u0301 Ｆ") == "café Ｆ"
    assert edit("nfkc", "ＡＢ ﬁ ①") == "AB fi 1"
    assert edit("control", "a\x00b\x07\ufeffc\r\nd\re\u2028f\tg") == "abc\nd\ne\nf\tg"
    assert edit("whitespace", "  a\u00a0b \t\n\n\n\n\u3000c\n\n", max_blank_lines=1) == "  a b\n\n\u3000c"
    assert edit("simplified", "煉丹爐與漢語") == "炼丹炉与汉语"
    assert edit("repair", "cafÃ© and “quotes” stay ＡＢ") == "café and “quotes” stay ＡＢ"
    assert all(unicodedata.is_normalized("NFKC", edit("nfkc", text)) for text in ALL)
