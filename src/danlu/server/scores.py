"""Log-probabilities of the text that is shown, where an answer also holds thoughts, marks and calls: those tokens are left out.

The bytes of the tokens told joined are the text. A token that is shown in part is told with the bytes that are shown.
"""

from collections.abc import Sequence
from dataclasses import replace

from danlu.engine.answer import Scored


def matched(text: str, waiting: Sequence[Scored]) -> tuple[tuple[Scored, ...], tuple[Scored, ...]]:
    """The tokens of a text among those that wait, and those that wait on; what comes before the text is dropped.

    >>> one = [Scored(0, word, word.encode(), -1.0) for word in ("</think>", "\\n\\nYes", ", <", "tool")]
    >>> own, rest = matched("Yes,", one)
    >>> [score.text for score in own], [score.text for score in rest]
    (['Yes', ','], [' <', 'tool'])
    """
    wanted = text.encode()
    begin = b"".join([one.bytes for one in waiting]).find(wanted)
    if begin < 0 or not wanted:
        return (), tuple(waiting)
    own: list[Scored] = []
    rest: list[Scored] = []
    end, place = begin + len(wanted), 0
    for one in waiting:
        size = len(one.bytes)
        shown = one.bytes[max(0, begin - place) : max(0, end - place)]
        if shown:
            own.append(_part(one, shown))
        if left := one.bytes[max(0, end - place) :]:
            rest.append(_part(one, left))
        place += size
    return tuple(own), tuple(rest)


def _part(one: Scored, own: bytes) -> Scored:
    return one if own == one.bytes else replace(one, text=own.decode(errors="replace"), bytes=own)
