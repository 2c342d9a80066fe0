"""Smoothing equals what is worked out by hand, a plain twin made of dictionaries, and nltk's where both compute the same."""

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.models.kneser_ney import count, discounts_of
from danlu.models.ngram import NGram

VOCAB = 7


def model(documents, order, vocab=VOCAB, discounts=None, block=10**6):
    """A model of documents, counted in blocks of so many of them."""

    def blocks():
        for start in range(0, len(documents), block):
            part = documents[start : start + block]
            yield np.concatenate([np.array(one, np.int64) for one in part]), np.array([len(one) for one in part])

    return NGram.counted_from(NGram.Config(order=order, vocab_size=vocab), count(blocks, order, vocab, discounts))


def text(seed, documents=5, length=60):
    """Documents in which what comes next depends on what came before."""
    dice = np.random.default_rng(seed)
    steps = dice.choice([0, 1, 3], (documents, length), p=[0.2, 0.6, 0.2])
    return [one[: dice.integers(2, length)].tolist() for one in (np.cumsum(steps, axis=1) + dice.integers(3)) % (VOCAB - 1)]


def twin(documents, order, vocab, discounts):
    """p(token, context) by the definition: adjusted counts in dictionaries, recursion over ever shorter contexts."""
    counts = defaultdict(Counter)  # context -> token -> adjusted count
    for width in range(1, order + 1):
        before = defaultdict(set)
        for number, one in enumerate(documents):
            for start in range(len(one) - width + 1):
                if start + width == 1:
                    continue  # nothing foresees a document's first token
                gram = tuple(one[start : start + width])
                if width == order:
                    counts[gram[:-1]][gram[-1]] += 1
                else:
                    before[gram].add(one[start - 1] if start else ("start", number))
        for gram, different in before.items():
            counts[gram[:-1]][gram[-1]] = len(different)

    def probability(token, context):
        row = counts.get(context, {})
        total, cut = sum(row.values()), [0.0, *discounts]
        taken = sum(cut[min(amount, 3)] for amount in row.values())
        shorter = probability(token, context[1:]) if context else 1 / vocab
        if not total:
            return shorter
        amount = row.get(token, 0)
        return (amount - cut[min(amount, 3)]) / total + taken / total * shorter

    return probability


def contexts(order, vocab=VOCAB):
    """Every context of known tokens, shorter ones with -1 for what is before the document."""
    known = [row for length in range(order) for row in itertools.product(range(vocab), repeat=length)]
    rows = [[-1] * (order - 1 - len(row)) + list(row) for row in known]
    return torch.tensor(rows).view(len(rows), order - 1)


def test_a_text_of_six_words_worked_out_by_hand():
    """a b a c a b; a stands after two different words, b and c after one each. d is in the vocabulary only."""
    found = model([[0, 1, 0, 2, 0, 1]], 2, vocab=4, discounts=[(0.5, 0.75, 1.0)] * 2)
    alone = [(2 - 0.75) / 4, (1 - 0.5) / 4, (1 - 0.5) / 4, 0]
    alone = [share + (0.75 + 0.5 + 0.5) / 4 / 4 for share in alone]
    after_a = [0, (2 - 0.75) / 3, (1 - 0.5) / 3, 0]
    after_a = [share + (0.75 + 0.5) / 3 * single for share, single in zip(after_a, alone, strict=True)]
    wanted = torch.tensor([alone, after_a, alone])
    torch.testing.assert_close(found.probability(torch.tensor([[-1], [0], [3]])), wanted)
    assert found(torch.tensor([[0]]))[0, 0, 1].exp() == pytest.approx(0.514323, abs=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_the_plain_twin_in_every_context(order):
    documents, discounts = text(order), (0.4, 0.9, 1.3)
    found = model(documents, order, discounts=[discounts] * order, block=2)
    plain = twin(documents, order, VOCAB, discounts)
    grid = contexts(order)
    rows = [tuple(token for token in row if token >= 0) for row in grid.tolist()]
    wanted = torch.tensor([[plain(token, row) for token in range(VOCAB)] for row in rows])
    torch.testing.assert_close(found.probability(grid), wanted)
    for token in range(VOCAB):
        target = torch.full((len(grid),), token)
        torch.testing.assert_close(found.target_probability(grid, target), wanted[:, token])


def test_equals_nltk_with_one_discount_and_none_for_single_tokens():
    """nltk has plain Kneser-Ney: one discount at every order above the first, and no share for words it has not seen."""
    lm = pytest.importorskip("nltk.lm")
    words = [5, 5, *(token % 5 for token in itertools.chain(*text(9, documents=4)))]  # opens as nltk would pad it
    reference = lm.KneserNeyInterpolated(3, discount=0.3)
    named = [str(word) for word in words]
    grams = [tuple(named[at : at + width]) for width in (1, 2, 3) for at in range(len(words) - width + 1)]
    reference.fit([grams], vocabulary_text=named)
    found = model([words], 3, discounts=[(0.0, 0.0, 0.0), (0.3,) * 3, (0.3,) * 3])
    grid = torch.tensor(list(itertools.product(range(5), repeat=2)))
    wanted = torch.tensor([[reference.score(str(w), [str(part) for part in row]) for w in range(5)] for row in grid.tolist()])
    torch.testing.assert_close(found.probability(grid)[:, :5], wanted)


def test_discounts_come_from_counts_of_counts():
    """Chen and Goodman's estimate, written out for 100, 40, 20 and 10 k-grams seen once to four times."""
    share = 100 / (100 + 2 * 40)
    wanted = (1 - 2 * share * 40 / 100, 2 - 3 * share * 20 / 40, 3 - 4 * share * 10 / 20)
    found, estimated = discounts_of(np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 10, 3]))
    assert estimated and found == pytest.approx(wanted)
    assert discounts_of(np.array([4, 4, 5])) == ((0.5, 1.0, 1.5), False)


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12), min_size=1, max_size=6),
    order=st.integers(1, 5),
    context=st.lists(st.integers(-1, VOCAB - 1), min_size=4, max_size=4),
)
def test_probabilities_add_up_to_one_for_any_text_and_context(documents, order, context):
    found = model(documents, order)
    row = found.probability(torch.tensor([context[len(context) - (order - 1) :]]).view(1, -1))
    assert (row > 0).all()
    torch.testing.assert_close(row.sum(), torch.tensor(1.0))


def test_neither_blocks_nor_the_order_of_documents_change_anything():
    documents = text(3, documents=9)
    first, second = model(documents, 3), model(documents[::-1], 3, block=1)
    assert first.config == second.config
    for name, buffer in first.named_buffers():
        assert torch.equal(buffer, dict(second.named_buffers())[name]), name


def test_what_follows_many_different_tokens_is_likelier_in_a_new_place():
    """Token 1 and token 2 are equally frequent; 1 comes after four different tokens, 2 only after 0."""
    documents = [[3, 1], [4, 1], [5, 1], [6, 1], *[[0, 2]] * 4]
    new = model(documents, 2).probability(torch.tensor([[2]]))[0]
    assert new[1] > 1.5 * new[2]


def test_longer_contexts_foresee_a_text_with_longer_memory_better():
    """Every third token is the sum of the two before it."""
    dice = np.random.default_rng(0)
    pairs = dice.integers(3, size=(400, 2))
    line = np.concatenate([pairs, pairs.sum(1, keepdims=True)], 1).ravel().tolist()
    held = torch.tensor([line[:300]])
    nats = []
    for order in (1, 2, 3):
        one = model([line[300:]], order)
        nats.append(one.cross_entropy_sum(one.hidden(held[:, :-1])[0], held[0, 1:]).item())
    assert nats[0] > 1.04 * nats[1] and nats[1] > 1.2 * nats[2]
