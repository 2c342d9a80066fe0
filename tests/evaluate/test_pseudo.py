"""Pseudo figures of masked models against a loop by hand with transformers, and under names of their own."""

import json
import math

import numpy as np
import pytest
import torch
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.cli import main
from danlu.core.errors import BadInput
from danlu.engine.model import load
from danlu.evaluate import pseudo, report
from danlu.evaluate.text import Text
from danlu.objectives.masked import Words

STORY = "The furnace 丹炉 was lit, and 道士 slept <|endoftext|> on.\n"


@pytest.fixture(scope="module", params=["bert", "modernbert"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    write_tiny(folder, request.param, max_position_embeddings=40)
    return load(folder)


def test_each_token_costs_what_a_loop_with_transformers_finds(model):
    import transformers

    reference = transformers.AutoModelForMaskedLM.from_pretrained(model.path).eval()
    text = "The furnace 丹炉 was lit!"  # bytes are the tokens
    ids = model.tokenizer.encode(text)
    line = torch.tensor([0, *ids])
    words = [(0, 3), (3, 11), (11, 15), (15, 18), (18, 22), (22, 26), (26, 27)]  # in bytes; a blank leads its word
    end_of = [end for start, end in words for _ in range(start, end)]
    assert len(end_of) == len(ids)

    def nats(at, end):
        hidden = line.clone()
        hidden[1 + at : 1 + end] = 3
        with torch.no_grad():
            return -reference(hidden[None]).logits[0, 1 + at].log_softmax(-1)[ids[at]].item()

    alone, within = pseudo.surprises(model, ids)
    np.testing.assert_allclose(alone.nats, [nats(at, at + 1) for at in range(len(ids))], rtol=1e-4)
    np.testing.assert_allclose(within.nats, [nats(at, end) for at, end in enumerate(end_of)], rtol=1e-4)
    assert (alone.nats != within.nats).sum() == sum(end > at + 1 for at, end in enumerate(end_of))


@pytest.mark.parametrize(("window", "stride"), [(40, None), (13, 4), (7, 7), (9, 1)])
def test_a_long_text_is_read_block_by_block_in_the_middle_of_windows(model, window, stride):
    ids = model.tokenizer.encode(STORY)
    line, step = [0, *ids], stride or window // 2
    wanted = []
    for begin in range(1, len(line), step):
        size = min(step, len(line) - begin)
        start = max(0, min(begin - (window - size) // 2, len(line) - window))
        for at in range(begin, begin + size):
            hidden = line[start : start + window].copy()
            hidden[at - start] = 3
            logits = model.logits([hidden])[0, at - start]
            wanted.append(-logits.log_softmax(-1)[line[at]].item())
    np.testing.assert_allclose(pseudo.surprises(model, ids, window, stride)[0].nats, wanted, rtol=1e-4)


def test_batches_change_nothing(model, monkeypatch):
    ids = model.tokenizer.encode(STORY)
    together = pseudo.surprises(model, ids)
    monkeypatch.setattr(pseudo, "_BATCH_TOKENS", 1)
    for one, other in zip(together, pseudo.surprises(model, ids), strict=True):
        np.testing.assert_allclose(one.nats, other.nats, rtol=1e-4)


def test_figures_carry_names_of_their_own_and_add_up(model):
    alone, within = pseudo.scores(model, [Text("a", STORY), Text("b", STORY[5:])], "m")
    assert (alone.name, within.name) == ("m (pseudo)", "m (pseudo, within words)")
    figures = alone.figures()
    assert not {"bits_per_byte", "perplexity_by_token", "nats"} & set(figures)
    assert figures["pseudo_bits_per_byte"] == pytest.approx(alone.nats / math.log(2) / alone.bytes)
    assert figures["pseudo_perplexity_by_token"] == pytest.approx(math.exp(alone.nats / alone.tokens))
    assert [set(file) & {"nats", "bits_per_byte"} for file in figures["files"]] == [set(), set()]
    assert report.differences([alone, within]) == []


def test_words_of_multi_byte_tokens_end_where_the_word_ends():
    class Opened:
        tokenizer = tiny_tokenizer("<|mask|>")

    ids = np.array(Opened.tokenizer.encode("ab 丹c"))
    assert pseudo.word_ends(Opened, ids).tolist() == [2, 2, 6, 6, 6, 6, 7]
    assert Words(Opened.tokenizer).mask == 3


def test_masked_and_causal_models_stand_in_one_report_but_are_not_compared(model, tmp_path, capsys):
    for name, seed in (("one", 1), ("two", 2)):
        write_tiny(tmp_path / name, seed=seed)
    (tmp_path / "story.txt").write_text(STORY * 12)
    words = [str(tmp_path / "one"), str(model.path), str(tmp_path / "two"), "--text", str(tmp_path / "story.txt")]
    assert main(["evaluate", *words, "-o", str(tmp_path / "r")]) == 0
    shown = capsys.readouterr()
    assert "(pseudo)" in shown.out and "one - two" in shown.out and "do not compare" in shown.err
    figures = json.loads((tmp_path / "r" / "report.json").read_text())
    assert ["pseudo_bits_per_byte" in row for row in figures["models"]] == [False, True, True, False]
    assert [(pair["first"], pair["second"]) for pair in figures["differences"]] == [("one", "two")]
    assert "no probability of the text" in (tmp_path / "r" / "report.html").read_text()


def test_a_tokenizer_without_a_mask_token_is_named(tmp_path):
    write_tiny(tmp_path / "m", "bert")
    tiny_tokenizer().save(tmp_path / "m")
    with pytest.raises(BadInput, match="no mask token"):
        pseudo.surprises(load(tmp_path / "m"), [5, 6])
