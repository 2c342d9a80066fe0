"""A token set is counted whole or in an exact, even share, and every token is accounted for."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.train.small import VOCAB, texts, token_set

from danlu.models.ngram import NGram
from danlu.train import count as counting

CONFIG = NGram.Config(order=3, vocab_size=VOCAB)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens") / "train")


@pytest.fixture(scope="module")
def heldout(tmp_path_factory):
    return token_set(tmp_path_factory.mktemp("tokens") / "heldout", texts(47)[40:])


@pytest.mark.parametrize("most", [1, 100, 333, None])
def test_a_budget_of_tokens_is_kept_to_the_token(tokens, heldout, most):
    done = counting.train(CONFIG, tokens, heldout, most=most)
    row = counting.ledger(done, tokens, heldout)["tokens"]
    assert row["trained_on"] == (most or row["learnable"])
    assert row["stored"] == row["learnable"] + row["documents"] == tokens.tokens
    assert row["trained_on"] + row["left_out"] == row["learnable"]


def test_more_text_than_there_is_gives_all_of_it_once(tokens, heldout):
    first, second = (counting.train(CONFIG, tokens, heldout, most=most) for most in (None, 10**9))
    assert first.tokens == second.tokens
    assert all(torch.equal(a, b) for a, b in zip(first.model.buffers(), second.model.buffers(), strict=True))


def test_a_share_is_the_seeds_and_the_whole_is_everyones(tokens):
    shares = [counting.share(tokens, 100, seed) for seed in (0, 1)]
    assert not np.array_equal(shares[0][:2], shares[1][:2])
    whole = [counting.train(CONFIG, tokens, None, seed=seed).model for seed in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(whole[0].buffers(), whole[1].buffers(), strict=True))


def test_small_blocks_hold_every_token_once_in_whole_documents(tokens):
    chosen = counting.share(tokens, None, 0)
    found = list(counting.blocks(tokens, chosen, most=50))
    assert len(found) > 5
    assert sum(len(line) for line, _ in found) == tokens.tokens
    assert all(len(line) == lengths.sum() for line, lengths in found)


def test_held_out_figures_are_those_of_each_document_alone(tokens, heldout):
    done = counting.train(CONFIG, tokens, heldout)
    nats = 0.0
    for number in range(len(heldout)):
        ids = torch.from_numpy(heldout.document(number).astype(np.int64))
        nats += F.cross_entropy(done.model(ids[None, :-1])[0], ids[1:], reduction="sum").item()
    assert done.heldout["loss"] == pytest.approx(nats / (heldout.tokens - len(heldout)), rel=1e-5)
    assert done.heldout["bits_per_byte"] == pytest.approx(nats / math.log(2) / int(heldout.text_bytes.sum()), rel=1e-5)
