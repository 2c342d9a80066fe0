"""Laws of the block pool: what is found is what was written, nothing in use is given away, counts add up."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from danlu.engine.blocks import BlockPool, root_of


def write(pool, ids, root):
    """Hold blocks for ids as a sequence does, and seal the full ones."""
    found, names = pool.find(ids, root)
    taken = pool.take(pool.needed(len(ids)) - len(found))
    if taken is None:
        pool.release(found)
        return None
    blocks = found + taken
    for index in range(len(names), len(ids) // pool.block_tokens):
        before = names[-1] if names else root
        names.append(pool.seal(blocks[index], before, ids[index * pool.block_tokens : (index + 1) * pool.block_tokens]))
    return blocks


def test_an_equal_beginning_is_found_but_never_the_last_token():
    pool, root = BlockPool(8, 4), root_of("someone")
    ids = np.arange(8)
    first = write(pool, ids, root)
    found, _ = pool.find(ids, root)
    assert found == first[:1]  # 8 tokens fill two blocks, but the last token's logits must be computed
    longer, _ = pool.find(np.arange(9), root)
    assert longer == first


def test_owners_do_not_find_one_another():
    pool = BlockPool(8, 4)
    write(pool, np.arange(9), root_of("a"))
    assert pool.find(np.arange(9), root_of("b"))[0] == []
    assert pool.find(np.arange(9), root_of("a", "adapter"))[0] == []
    assert len(pool.find(np.arange(9), root_of("a"))[0]) == 2


def test_equal_tokens_behind_other_beginnings_are_other_blocks():
    pool, root = BlockPool(8, 2), root_of("")
    write(pool, np.array([1, 2, 3, 4, 5]), root)
    assert pool.find(np.array([9, 9, 3, 4, 5]), root)[0] == []


def test_released_blocks_are_found_until_their_place_is_needed():
    pool, root = BlockPool(3, 2), root_of("")
    blocks = write(pool, np.array([1, 2, 3, 4, 5]), root)
    pool.release(blocks)
    assert pool.free == 3
    again, _ = pool.find(np.array([1, 2, 3, 4, 5]), root)
    assert again == blocks[:2]
    pool.release(again)
    pool.take(2)  # the block that holds nothing and the end of the old text go first
    assert pool.find(np.array([1, 2, 3, 4, 5]), root)[0] == blocks[:1]


def test_more_than_there_are_is_refused_and_takes_nothing():
    pool = BlockPool(3, 2)
    assert pool.take(4) is None
    assert pool.free == 3 and pool.used == 0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12), st.booleans()), max_size=40))
def test_blocks_in_use_are_never_given_to_another(actions):
    pool, root = BlockPool(6, 3), root_of("")
    held = []
    for text, length, keep in actions:
        ids = np.arange(length) % 4 + 10 * text
        blocks = write(pool, ids, root)
        if blocks is None:
            continue
        held.append((blocks, ids))
        if not keep:
            pool.release(held.pop(0)[0])
        content = {}
        for mine, tokens in held:  # a block may be shared only by those who have the same beginning up to its end
            for index, block in enumerate(mine):
                end = min((index + 1) * 3, len(tokens))
                whole = end == (index + 1) * 3
                name = tuple(tokens[:end]) if whole else (id(mine), index)
                assert content.setdefault(block, name) == name
        assert pool.used == len({block for mine, _ in held for block in mine})
        assert pool.used + pool.free == 6
