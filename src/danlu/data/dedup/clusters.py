"""Which documents belong together, given keys that they share: connected components, by arrays and by the plain union-find."""

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
