"""Memory in blocks, shared by what they hold: which blocks are free, whose they are, and which tokens stand in them.

A block of B tokens that has been computed is sealed: its name is a hash over its tokens, the name of the block before it and
the salt of its owner, so equal names mean equal beginnings (vLLM's hash chain, arXiv:2309.06180 for the blocks themselves).
A sealed block that nobody uses stays findable until its place is needed; the one unused for longest goes first.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np


class BlockPool:
    """Counts of use and names of blocks 0 .. blocks-1; the contents lie with the runner."""

    def __init__(self, blocks: int, block_tokens: int):
        self.blocks, self.block_tokens = blocks, block_tokens
        self._users = [0] * blocks
        self._name: list[bytes | None] = [None] * blocks
        self._named: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        self.queried_tokens = self.found_tokens = 0

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return self.blocks - len(self._free)

    @property
    def free(self) -> int:
        """Blocks that can be taken, findable ones among them."""
        return len(self._free)

    def marks(self) -> str:
        """A digit for each block, for people to look at: 0 free, 1 free and findable, 2 held. May be asked from any thread."""
        return "".join("2" if users else "1" if name else "0" for users, name in zip(list(self._users), list(self._name)))

    def needed(self, tokens: int) -> int:
        """Blocks that hold so many tokens.

        >>> BlockPool(4, 16).needed(17)
        2
        """
        return -(-tokens // self.block_tokens)

    def find(self, ids: np.ndarray, root: bytes) -> tuple[list[int], list[bytes]]:
        """The longest beginning of `ids` that lies in sealed blocks, which the caller now holds, and their names.

        The last token is never found: its logits have to be computed.
        """
        found, names, name = [], [], root
        whole = max(len(ids) - 1, 0) // self.block_tokens
        for index in range(whole):
            name = chained(name, ids[index * self.block_tokens : (index + 1) * self.block_tokens])
            block = self._named.get(name)
            if block is None:
                break
            found.append(block)
            names.append(name)
        for block in found:
            self._hold(block)
        return found, names

    def count(self, queried: int, found: int) -> None:
        """A sequence has begun: so many tokens were looked for, and so many of them found."""
        self.queried_tokens += queried
        self.found_tokens += found

    def take(self, count: int) -> list[int] | None:
        """So many blocks to write into; None, and nothing is taken, where there are not enough."""
        if count > len(self._free):
            return None
        taken = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in taken:
            self._users[block] = 1
            self._forget(block)
        return taken

    def seal(self, block: int, before: bytes, ids: np.ndarray) -> bytes:
        """Name a block that is full. Where another block has the same name already, that one stays the findable one."""
        name = chained(before, ids)
        if self._named.setdefault(name, block) == block:
            self._name[block] = name
        return name

    def release(self, blocks: Sequence[int]) -> None:
        """No longer held by one sequence. The ends of sequences become reusable before their beginnings."""
        for block in reversed(blocks):
            self._users[block] -= 1
            assert self._users[block] >= 0
            if self._users[block] == 0:
                self._free[block] = None
                if self._name[block] is None:
                    self._free.move_to_end(block, last=False)  # holds nothing that could be found

    def _hold(self, block: int) -> None:
        self._users[block] += 1
        self._free.pop(block, None)

    def _forget(self, block: int) -> None:
        name, self._name[block] = self._name[block], None
        if name is not None:
            del self._named[name]


def root_of(*parts: str) -> bytes:
    """The name before the first block: owner, adapter and whatever else keeps equal tokens apart."""
    return _digest(b"\0".join(part.encode() for part in parts))


def chained(before: bytes, ids: np.ndarray) -> bytes:
    """The name of a block of tokens (int64) behind the block called `before`."""
    return _digest(before + ids.astype("<i8").tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
