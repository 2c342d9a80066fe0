"""Scores of text against an independent computation with transformers, and laws of windows and blocks."""

import math

import numpy as np
import pytest
import torch
from tests.tiny import write_tiny

from danlu.core.errors import BadInput, NoUsableText
from danlu.engine.model import load
from danlu.evaluate import text as scoring
from danlu.evaluate.text import Text, compare, read_texts, score, spans, surprise
from danlu.metrics.perplexity import word_count

STORY = "The furnace 丹炉 was lit at dawn.\nBy noon the lead had melted, and 道士 slept <|endoftext|> on.\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny(folder)  # context 64
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.mark.parametrize("targets", [1, 2, 6, 7, 8, 23])
@pytest.mark.parametrize(("window", "stride"), [(7, 7), (7, 3), (7, 1), (5, 2)])
def test_every_token_is_scored_once_with_enough_context(targets, window, stride):
    scored = []
    for start, end, done in spans(targets, window, stride):
        assert end - start <= window
        assert start == 0 or done - start >= window - stride
        scored += range(done, end)
    assert scored == list(range(targets))


def test_a_short_text_costs_what_transformers_says(folder, model):
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a furnace 丹炉", add_special_tokens=False)["input_ids"]
    line = torch.tensor([[tokenizer.bos_token_id, *ids]])
    with torch.no_grad():
        loss = reference(line, labels=line).loss.item()  # mean over all but the first
    found = score(model, [Text("t", "a furnace 丹炉")], "m")
    assert found.tokens == len(ids)
    assert found.nats == pytest.approx(loss * len(ids), rel=1e-5)
    figures = found.figures()
    assert figures["perplexity_by_token"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert figures["perplexity_by_word"] == pytest.approx(math.exp(loss * len(ids) / 4), rel=1e-5)  # a, furnace, 丹, 炉
    assert figures["bits_per_byte"] == pytest.approx(loss * len(ids) / math.log(2) / 16, rel=1e-5)


@pytest.mark.parametrize("stride", [5, 32, 64])
def test_a_long_text_is_what_a_window_at_a_time_in_transformers_gives(folder, model, stride):
    """The documented recipe for fixed-length models, with a batch of one and labels masked by hand."""
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = model.tokenizer.encode(STORY * 2)
    line = torch.tensor([model.tokenizer.bos_id, *ids])
    expected, done = 0.0, 0
    while done < len(ids):
        end = min(done + (stride if done else 64), len(ids))
        start = max(0, end - 64)
        with torch.no_grad():
            chances = reference(line[None, start:end]).logits[0].log_softmax(-1)
        for target in range(done, end):
            expected -= chances[target - start, line[target + 1]].item()
        done = end
    assert surprise(model, ids, stride=stride).nats.sum() == pytest.approx(expected, rel=1e-5)


def test_batches_of_windows_change_nothing(model, monkeypatch):
    ids = model.tokenizer.encode(STORY * 3)
    together = surprise(model, ids, window=16, stride=4).nats
    monkeypatch.setattr(scoring, "_BATCH_LOGITS", 0)
    np.testing.assert_allclose(surprise(model, ids, window=16, stride=4).nats, together, rtol=1e-5)


def test_special_tokens_in_the_text_are_text(model):
    found = score(model, [Text("t", "a<|endoftext|>b")], "m")
    assert found.tokens == len("a<|endoftext|>b")


def test_without_a_first_token_the_first_costs_a_uniform_choice(model, monkeypatch):
    monkeypatch.setitem(model.tokenizer.config, "bos_token", None)
    found = surprise(model, model.tokenizer.encode("abc"))
    assert found.nats[0] == pytest.approx(math.log(259)) and len(found.nats) == 3


def test_blocks_hold_all_nats_and_all_bytes(model):
    found = score(model, [Text("one", STORY * 4), Text("two", "短。")], "m")
    assert found.block_nats.sum() == pytest.approx(found.nats)
    assert found.block_tokens.sum() == found.tokens
    assert found.block_words.sum() == found.words == word_count(STORY) * 4 + 2
    assert found.block_bytes.sum() == found.bytes == len((STORY * 4).encode()) + len("短。".encode())
    assert len(found.block_nats) == len(STORY.encode()) * 4 // 256 + 1
    assert sum(file["nats"] for file in found.files) == pytest.approx(found.nats)


def test_the_excerpt_spells_the_beginning_and_carries_its_surprise(model):
    found = score(model, [Text("t", "丹炉 hot")], "m")
    assert "".join(piece for piece, _ in found.excerpt) == "丹炉 hot"
    assert sum(bits for _, bits in found.excerpt) == pytest.approx(found.nats / math.log(2))


def test_a_model_compared_with_itself_differs_by_nothing(model):
    found = score(model, [Text("t", STORY * 10)], "m")
    gap = compare(found, found)
    assert gap.value == gap.standard_error == gap.low == gap.high == 0


def test_windows_that_do_not_fit_are_refused(model):
    with pytest.raises(BadInput, match="context"):
        score(model, [Text("t", "abc")], "m", window=65)
    with pytest.raises(BadInput, match="skipped"):
        score(model, [Text("t", "abc")], "m", window=8, stride=9)


def test_files_that_are_no_text_are_refused_by_name(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "binary.bin").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(BadInput, match=r"missing\.txt: No such file"):
        read_texts([tmp_path / "missing.txt"])
    with pytest.raises(NoUsableText, match=r"empty\.txt"):
        read_texts([tmp_path / "empty.txt"])
    with pytest.raises(BadInput, match=r"binary\.bin"):
        read_texts([tmp_path / "binary.bin"])


def test_encodings_are_recognised(tmp_path):
    path = tmp_path / "gb.txt"
    path.write_bytes(("丹炉炼丹，火候为先。" * 9).encode("gb18030"))
    assert read_texts([path])[0].text == "丹炉炼丹，火候为先。" * 9
