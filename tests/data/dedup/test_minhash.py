import random

import numpy as np
from tests.data.hostile import HOSTILE, noise

from danlu.data import plain
from danlu.data.dedup import DEDUPS
from danlu.data.dedup.clusters import Clusters, clusters_plain, nearest_kept
from danlu.data.dedup.minhash import MinHash, signatures, signatures_plain
from danlu.data.texts import Texts


def shingle_sets(texts, n):
    found = []
    for text in texts:
        words = plain.words(text)
        found.append(set(plain.grams(words, n)) or ({tuple(words)} if words else set()))
    return found


def variants(alphabet, length, changes, seed):
    rng = random.Random(seed)
    base = rng.choices(alphabet, k=length)
    texts = [" ".join(base)]
    for change in changes:
        other = list(base)
        for place in rng.sample(range(length), change):
            other[place] = rng.choice(alphabet)
        texts.append(" ".join(other))
    return texts


def test_signatures_are_the_minima_of_the_plain_twin():
    shingles, offsets = Texts([*HOSTILE, *noise(2, 20)]).shingles(3)
    np.testing.assert_array_equal(signatures(shingles, offsets, 7), signatures_plain(shingles, offsets, 7))


def test_signatures_do_not_depend_on_how_the_shingles_are_blocked(monkeypatch):
    shingles, offsets = Texts(noise(3, 30)).shingles(2)
    whole = signatures(shingles, offsets, 5)
    monkeypatch.setattr("danlu.data.dedup.minhash._BLOCK", 11)
    np.testing.assert_array_equal(signatures(shingles, offsets, 5), whole)


def test_agreement_estimates_jaccard_similarity():
    """The share of equal rows is binomial around the similarity: five standard deviations at 1024 rows."""
    for alphabet in ([f"word{n}" for n in range(300)], [chr(0x4E00 + n) for n in range(300)]):
        texts = variants(alphabet, 400, [3, 10, 30, 90], seed=4)
        signature = signatures(*Texts(texts).shingles(5), 1024)
        sets = shingle_sets(texts, 5)
        for other in range(1, len(texts)):
            true = len(sets[0] & sets[other]) / len(sets[0] | sets[other])
            seen = (signature[0] == signature[other]).mean()
            assert abs(seen - true) < 5 * (max(true * (1 - true), 0.01) / 1024) ** 0.5


def test_near_copies_share_a_band_and_strangers_do_not():
    for alphabet in ([f"word{n}" for n in range(900)], [chr(0x4E00 + n) for n in range(900)]):
        near, far = variants(alphabet, 500, [4], seed=5), variants(alphabet, 500, [], seed=6)
        keys = MinHash(MinHash.Config()).keys(Texts([*near, *far]))
        assert any(column[0] == column[1] for column in keys.values())
        assert not any(column[0] == column[2] for column in keys.values())


def test_documents_without_words_have_no_keys():
    for name in DEDUPS.names():
        dedup = DEDUPS.build(DEDUPS[name].Config())
        keys = dedup.keys(Texts(["", " \n ", "text"]))
        assert list(keys) == dedup.columns()
        assert all(column[0] == 0 and column[1] == 0 and column[2] != 0 for column in keys.values())


def test_exact_copies_differ_in_white_space_at_most():
    keys = DEDUPS.build(DEDUPS["exact"].Config()).keys(Texts(["a b\nc", "a  b c ", "a b C", "ab c"]))["exact"]
    assert keys[0] == keys[1] and len(set(keys.tolist())) == 3


def test_components_equal_the_plain_union_find():
    rng = np.random.default_rng(7)
    for count in (0, 1, 2, 13, 400):
        columns = [rng.integers(0, max(count * 2, 1), count).astype(np.uint64) for _ in range(3)]
        clusters = Clusters(count)
        for column in columns:
            clusters.join(column)
        assert clusters.root.tolist() == clusters_plain([column.tolist() for column in columns], count)


def test_a_long_chain_is_one_component():
    count = 1000
    order = np.random.default_rng(8).permutation(count)
    left, right = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    for link in range(count - 1):
        (left if link % 2 else right)[order[link]] = link + 1
        (left if link % 2 else right)[order[link + 1]] = link + 1
    clusters = Clusters(count)
    clusters.join(left)
    clusters.join(right)
    assert set(clusters.root.tolist()) == {0}


def test_a_document_leaves_for_one_that_stays_and_is_like_it():
    rng = np.random.default_rng(9)
    for count in (1, 2, 13, 300):
        keys = rng.integers(0, max(count * 2, 2), (count, 5)).astype(np.uint64)
        twins = nearest_kept(keys)
        alike = ((keys[:, None] == keys[None]) & (keys[:, None] != 0)).any(axis=2)
        stays = twins < 0
        assert not (alike & ~np.eye(count, dtype=bool))[np.ix_(stays, stays)].any(), "no two that stay are copies"
        for copy in np.flatnonzero(~stays):
            candidates = np.flatnonzero(alike[copy] & stays & (np.arange(count) < copy))
            assert twins[copy] == candidates[0], "the best of those it is like"
