"""Byte-pair encoding, plainly: the definition that the fast trainers and encoders must agree with. Start reading here.

Training: cut texts into pieces, count equal pieces, then again and again join the two neighbouring tokens that stand
together most often. Ties go to the pair with the smaller ids, first the left, then the right. Encoding: cut, then in each
piece join the pair that was learned earliest, leftmost first, until no learned pair is left.
Source: Sennrich et al. 2016 (arXiv:1508.07909), algorithm 1, on bytes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import regex  # type: ignore[import-untyped]

Pair = tuple[bytes, bytes]


def cut(text: str, pattern: str) -> list[bytes]:
    """The pieces of a text; no token ever crosses their ends."""
    return [match[0].encode() for match in regex.finditer(pattern, text)]


def train(texts: Iterable[str], merges: int, pattern: str, byte_order: Sequence[int] = range(256)) -> list[Pair]:
    """At most `merges` merges in the order they are learned; fewer when nothing is left to join.

    byte_order: the order of the single bytes for ties. rustbpe goes by value; `tokenizers` by the characters that stand for
    the bytes, so that control bytes and the blank come last.

    >>> train(["low lower lowest"], 3, r" ?[a-z]+")
    [(b'l', b'o'), (b'lo', b'w'), (b' ', b'low')]
    """
    counts = Counter(piece for text in texts for piece in cut(text, pattern))
    pieces = [[piece[at : at + 1] for at in range(len(piece))] for piece in counts]
    number = {bytes([byte]): at for at, byte in enumerate(byte_order)}
    learned: list[Pair] = []
    while len(learned) < merges:
        found: Counter[Pair] = Counter()
        for piece, count in zip(pieces, counts.values(), strict=True):
            for pair in pairwise(piece):
                found[pair] += count
        if not found:
            break
        best = min(found, key=lambda pair: (-found[pair], number[pair[0]], number[pair[1]]))
        number[best[0] + best[1]] = len(number)
        learned.append(best)
        pieces = [join(piece, best) for piece in pieces]
    return learned


def join(tokens: Sequence[bytes], pair: Pair) -> list[bytes]:
    """Replace every occurrence of a pair by its joined token, from the left.

    >>> join([b"a", b"a", b"a"], (b"a", b"a"))
    [b'aa', b'a']
    """
    joined: list[bytes] = []
    at = 0
    while at < len(tokens):
        if tuple(tokens[at : at + 2]) == pair:
            joined.append(pair[0] + pair[1])
            at += 2
        else:
            joined.append(tokens[at])
            at += 1
    return joined


def encode(text: str, merges: Sequence[Pair], pattern: str) -> list[bytes]:
    """The tokens of a text.

    >>> encode("lower low", [(b"l", b"o"), (b"lo", b"w")], r" ?[a-z]+")
    [b'low', b'e', b'r', b' ', b'low']
    """
    order = {pair: at for at, pair in enumerate(merges)}
    tokens: list[bytes] = []
    for piece in cut(text, pattern):
        parts = [piece[at : at + 1] for at in range(len(piece))]
        while len(parts) > 1:
            first = min(pairwise(parts), key=lambda pair: order.get(pair, len(order)))
            if first not in order:
                break
            parts = join(parts, first)
        tokens += parts
    return tokens
