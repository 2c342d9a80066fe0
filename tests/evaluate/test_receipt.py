"""The receipt of a smaller model: its figures are those of an independent computation, and of plain definitions."""

import math

import numpy as np
import pytest
import torch
from tests.tiny import write_tiny

from danlu.engine.model import load
from danlu.evaluate.receipt import changes, receipts, through_model, through_runner
from danlu.evaluate.text import Text, score, surprise

WORDS = "The furnace keeps what the fire cannot take. 丹炉之中，火候为先。\n" * 30


def change(before, after, ids, window):
    return changes(before, [through_model(after)], ids, window)[0]


def receipt(before, after, texts, tokens):
    return receipts(before, {"after": through_model(after)}, texts, tokens)["after"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A model and another one near it."""
    folder = tmp_path_factory.mktemp("two")
    write_tiny(folder / "one", "llama", max_position_embeddings=64)
    write_tiny(folder / "two", "llama", max_position_embeddings=64)
    one, two = load(folder / "one", device="cpu"), load(folder / "two", device="cpu")
    with torch.no_grad():
        two.model.embedding.add_(0.02 * torch.randn(two.model.embedding.shape, generator=torch.Generator().manual_seed(1)))
    return one, two


def test_a_model_beside_itself_has_not_changed(two):
    found = receipt(two[0], two[0], [Text("t", WORDS)], 600)
    assert found["bits_per_byte_change"]["value"] == found["divergence"]["value"] == 0
    assert found["perplexity_ratio"]["value"] == found["top1_agreement"]["value"] == 1
    assert found["perplexity_before"] == found["perplexity_after"]


def test_surprise_is_what_evaluation_measures(two):
    ids = two[0].tokenizer.encode(WORDS)
    found = change(*two, ids, 64)
    for model, column in zip(two, (found.before, found.after), strict=True):
        np.testing.assert_allclose(column, surprise(model, ids).nats, rtol=1e-4, atol=1e-4)
    scores = [score(model, [Text("t", WORDS)], "m").bits_per_byte for model in two]
    figures = receipt(*two, [Text("t", WORDS)], 10**6)
    for when, expected in zip(("before", "after"), scores, strict=True):
        assert figures[f"bits_per_byte_{when}"]["value"] == pytest.approx(expected.value, rel=1e-4)
        assert figures[f"bits_per_byte_{when}"]["standard_error"] == pytest.approx(expected.standard_error, rel=1e-3)
    difference = figures["bits_per_byte_after"]["value"] - figures["bits_per_byte_before"]["value"]
    assert figures["bits_per_byte_change"]["value"] == pytest.approx(difference)
    assert figures["bits_per_byte_change"]["standard_error"] < figures["bits_per_byte_before"]["standard_error"]


def test_divergence_and_agreement_are_their_definitions(two):
    """In one window, position by position, with numpy's logarithms."""
    ids = two[0].tokenizer.encode("the fire keeps")
    line = [two[0].tokenizer.bos_id, *ids]
    old, new = (model.logits([line[:-1]])[0].double().numpy() for model in two)
    p, q = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True) for logits in (old, new))
    found = change(*two, ids, 64)
    np.testing.assert_allclose(found.divergence, (p * np.log(p / q)).sum(-1), rtol=1e-5, atol=1e-9)
    assert found.same.tolist() == (old.argmax(-1) == new.argmax(-1)).tolist()
    np.testing.assert_allclose(found.after, -np.log(q[np.arange(len(ids)), ids]), rtol=1e-5)
    assert found.divergence.min() >= 0 and found.divergence.max() > 0


def test_perplexity_is_that_of_transformers(two):
    transformers = pytest.importorskip("transformers")
    figures = receipt(*two, [Text("t", WORDS)], 64)
    ids = two[0].tokenizer.encode(WORDS)[:64]
    text = two[0].tokenizer.decode(ids).rstrip("\ufffd")  # no half characters
    ids = two[0].tokenizer.encode(text)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(two[0].path).eval()
    given = torch.tensor([[two[0].tokenizer.bos_id, *ids]])
    with torch.inference_mode():
        loss = theirs(given, labels=given).loss.item()
    assert figures["tokens"] == len(ids)
    assert figures["perplexity_before"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_texts_are_read_in_order_until_the_tokens_are_full(two):
    texts = [Text("a", "ab" * 40), Text("b", "丹炉" * 40), Text("c", "never")]
    found = receipt(*two, texts, 150)
    assert found["texts"] == 2 and 145 <= found["tokens"] <= 150 and found["bytes"] == found["tokens"]
    assert found["blocks"] >= 2 and receipt(*two, [Text("a", "ab" * 10)], 99)["divergence"]["standard_error"] is None


def test_a_model_without_a_token_that_begins_a_document_is_measured_too(two):
    one = load(two[0].path, device="cpu")
    one.tokenizer.config.pop("bos_token")
    one.tokenizer.__dict__.pop("bos_id", None)
    if one.tokenizer.bos_id is not None:
        pytest.fail("the tokenizer still has a token that begins documents")
    found = change(one, one, [5, 6, 7], 64)
    assert found.before[0] == pytest.approx(math.log(one.model.vocab_size)) and (found.divergence == 0).all()


def test_what_serves_a_model_is_measured_as_it_computes(two):
    """A runner's own logits, in blocks, over the same windows."""
    from danlu.compress.speed import runner_of

    ids = two[0].tokenizer.encode(WORDS)[:150]
    plain, served = changes(two[0], [through_model(two[1]), through_runner(runner_of(two[1]))], ids, 64)
    for name in ("before", "after", "divergence"):
        np.testing.assert_allclose(getattr(served, name), getattr(plain, name), rtol=1e-3, atol=1e-5)
