"""When tiktoken's encoding of a byte-level BPE equals that of `tokenizers`: a proof, token by token.

`tokenizers` joins the pairs its merge list names; tiktoken joins any two neighbours whose concatenation is a token,
lowest rank first. Take a token that tiktoken forms from neighbours (c, d) somewhere in a piece. No earlier merge crossed
the ends of that span, so inside it happened exactly what happens to the token's bytes alone. Hence, if for every token
its bytes alone end in the two halves that the merge list names, both engines always perform the same merges.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise

NO_RANK = 1 << 62


def halves(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, ...]:
    """The parts that lowest-rank-first merging of a token's bytes leaves just before the token itself is formed.

    Two parts for a token that its vocabulary can form, more for one it cannot.

    >>> halves(b"abc", {b"bc": 256, b"abc": 257})
    (b'a', b'bc')
    """
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        found = [ranks.get(left + right, NO_RANK) for left, right in pairwise(parts)]
        lowest = min(found)
        if lowest == NO_RANK:
            break
        at = found.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return tuple(parts)


def recover_merges(tokens: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The merges behind tokens in merge order (without the 256 bytes). Raises ValueError where none can be."""
    tokens = list(tokens)
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for token in tokens:
        parts = halves(token, ranks)
        if len(parts) != 2:
            raise ValueError(f"token {token!r} cannot be formed by merges")
        merges.append((parts[0], parts[1]))
    return merges


def disagreement(merges: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Why tiktoken would not encode like the merge list, in words; None when it is proved to.

    Some lists name several pairs for one token, one after the other. The pair that is ever met is the same one (it is the
    halves above), so such lists are proved like others.
    """
    named: dict[bytes, set[tuple[bytes, bytes]]] = {}
    last = None
    for left, right in merges:
        token = left + right
        if token in named and token != last:
            return f"token {token!r} is formed by merges of different rank"
        named.setdefault(token, set()).add((left, right))
        last = token
    ranks = {token: rank for rank, token in enumerate(named)}
    for token, pairs in named.items():
        if halves(token, ranks) not in pairs:
            return f"token {token!r} is reached by another merge than the list names"
    return None
