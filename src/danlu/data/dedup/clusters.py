"""Which documents are copies of which, given the keys that they share.

Connected components find the documents that have copies at all. Among those, one after another from the best, a document
leaves when it shares a key with one that stays: every copy has a survivor it is really like, and no chain of likenesses
takes a document away whose ends are not alike.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from danlu.data.letters import Array


class Clusters:
    """Components of documents, grown by one column of keys after another."""

    def __init__(self, count: int):
        self.root = np.arange(count)

    def join(self, keys: Array) -> None:
        """Put documents with equal keys together; 0 is no key."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        same = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
        self._merge(order[:-1][same], order[1:][same])

    def _merge(self, left: Array, right: Array) -> None:
        """Hook larger roots under smaller ones and shorten the paths, until both ends of every edge agree."""
        root = self.root
        while len(left):
            a, b = root[left], root[right]
            apart = a != b
            left, right, a, b = left[apart], right[apart], a[apart], b[apart]
            np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
            while True:
                shorter = root[root]
                if np.array_equal(shorter, root):
                    break
                root = shorter
        self.root = root


def nearest_kept(keys: Array) -> Array:
    """For each document the first one that stays and shares a key with it; -1 for those that stay.

    keys: (D, C), best document first; equal non-zero keys of a column make copies.

    >>> nearest_kept(np.array([[7, 1], [7, 2], [8, 2], [8, 1]])).tolist()  # the third is like the second, which has left
    [-1, 0, -1, 0]
    """
    holders: list[dict[int, int]] = [{} for _ in range(keys.shape[1])]
    found = np.full(len(keys), -1)
    for document, row in enumerate(keys.tolist()):
        kept = [holder[key] for holder, key in zip(holders, row, strict=True) if key and key in holder]
        if kept:
            found[document] = min(kept)
            continue
        for holder, key in zip(holders, row, strict=True):
            if key:
                holder[key] = document
    return found


def clusters_plain(columns: Iterable[Sequence[int]], count: int) -> list[int]:
    """The definition: union-find, every cluster named by its smallest member."""
    root = list(range(count))

    def find(item: int) -> int:
        while root[item] != item:
            item = root[item]
        return item

    for keys in columns:
        first: dict[int, int] = {}
        for item, key in enumerate(keys):
            if key:
                a, b = find(first.setdefault(key, item)), find(item)
                root[max(a, b)] = min(a, b)
    return [find(item) for item in range(count)]
