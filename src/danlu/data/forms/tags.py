"""A list of words, each with its tag, such as B-PER, I-PER, O.

The words are joined to a text by one rule that reading and training share, so nothing has to store where each begins; and
because tags belong to words as they are, such samples are not edited.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

from danlu.core.settings import Named
from danlu.data.forms import FORMS
from danlu.data.forms.base import Form, Sample, words_of
from danlu.data.letters import UNIT, kind

_WIDE = "，。、；：？！“”‘’（）《》〈〉【】「」『』…—·～￥％＋－／＝．"  # punctuation that takes no blank beside it


@FORMS.register
class Tags(Form):
    """For named entities, parts of speech, word boundaries."""

    columns: ClassVar[Mapping[str, str]] = {"words": "words", "tags": "words"}

    class Config(Named):
        name: Literal["tags"] = "tags"
        words: str = "tokens"
        """Field that holds the words: a list, or words with white space between them."""
        tags: str = "tags"
        """Field that holds a tag for each word."""

    def take(self, record: Mapping[str, Any]) -> tuple[str, Sample]:
        words, tags = words_of(record, self.config.words), words_of(record, self.config.tags)
        if len(words) != len(tags):
            raise ValueError(f"{len(words)} words in {self.config.words!r} but {len(tags)} tags in {self.config.tags!r}")
        return "".join(pieces(words)), {"words": words, "tags": tags}

    def edit(self, text: str, sample: Sample, editor: Callable[[str], str]) -> tuple[str, Sample]:
        return text, sample


def pieces(words: Sequence[str]) -> list[str]:
    """The words as stretches of one text: a blank goes before a word, but not beside Han, kana or wide punctuation.

    Where every word is a single character the text was cut into characters, and no blank is added.

    >>> pieces(["Ada", "met", "丹", "炉", "."]), pieces(["1", "9", "年"])
    (['Ada', ' met', '丹', '炉', '.'], ['1', '9', '年'])
    """
    if all(len(word) == 1 for word in words):
        return list(words)
    found = list(words[:1])
    for before, word in pairwise(words):
        found.append(word if _narrow(before[-1:]) or _narrow(word[:1]) else f" {word}")
    return found


def _narrow(letter: str) -> bool:
    return not letter or kind(letter) == UNIT or letter in _WIDE
