"""F1 of whole entities in IOB tags, as CoNLL-2000 and seqeval count them: an entity is right with its type and both ends."""

from collections.abc import Sequence

from danlu.metrics import METRICS

Entity = tuple[str, int, int]


@METRICS.register
def entity_f1(said: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> float:
    """Micro-average over all sentences, 0 where neither side has an entity.

    >>> entity_f1([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"]])
    0.6666666666666666
    """
    right, claimed, there = (sum(column) for column in zip(*map(entity_counts, said, true), strict=True))
    return 2 * right / (claimed + there) if claimed + there else 0.0


def entity_counts(said: Sequence[str], true: Sequence[str]) -> tuple[int, int, int]:
    """Entities of one sentence: right, said, true. Raises ValueError for lists of unequal length."""
    if len(said) != len(true):
        raise ValueError(f"{len(said)} tags were said for a sentence of {len(true)} words")
    claimed, there = entities(said), entities(true)
    return len(set(claimed) & set(there)), len(claimed), len(there)


def entities(tags: Sequence[str]) -> list[Entity]:
    """(type, first word, last word) of each entity; I- without its own type before it begins one, as conlleval has it.

    >>> entities(["I-PER", "I-PER", "B-PER", "I-LOC", "O", "E-LOC"])
    [('PER', 0, 1), ('PER', 2, 2), ('LOC', 3, 3), ('LOC', 5, 5)]
    """
    found: list[Entity] = []
    before, kind = "O", ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, here = tag.partition("-")
        if before != "O" and (mark in "OBS" or here != kind or before in "ES"):
            found[-1] = (kind, found[-1][1], place - 1)
            before = "O"
        if mark != "O" and before == "O":
            found.append((here, place, place))
        before, kind = mark, here
    return found
