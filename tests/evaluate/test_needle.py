"""Haystacks are as long, as deep and as honest as they say; who can look up finds everything, who cannot nothing."""

import re

import numpy as np
import pytest
import torch
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.core.errors import BadInput
from danlu.engine.model import Model, load
from danlu.evaluate.haystack import CODES, NAMES, Needle, sentence
from danlu.evaluate.needle import NeedleScore, episode, heat_map, rows, search
from danlu.models.base import CausalLM

FACT = re.compile(r"The passcode of (\w+) is (\w+)\.")


class Reader(CausalLM):
    """Looks the question up in the text, as far back as it can see: the ideal (or short-sighted) model, by bytes."""

    def __init__(self, tokenizer, sight=10**9):
        torch.nn.Module.__init__(self)
        self.tokenizer, self.sight = tokenizer, sight
        self.table = torch.nn.Parameter(torch.zeros(1))
        self.config = type("Config", (), {"context": 512})()

    @property
    def embedding(self):
        return self.table

    def hidden(self, ids_BT, **_):
        ids = ids_BT[0].tolist()
        hidden = torch.zeros(1, len(ids), self.tokenizer.vocab_size)
        for at in range(len(ids)):
            text = self.tokenizer.decode(ids[max(0, at + 1 - self.sight) : at + 1])
            asked = re.search(r"The passcode of (\w+) is( \w*)?$", text)
            known = dict(FACT.findall(text)) if asked else {}
            if asked and asked[1] in known:
                rest = f" {known[asked[1]]}"[len(asked[2] or "") :]
                hidden[0, at, self.tokenizer.encode(rest)[0]] = 20.0
        return hidden

    def logits(self, hidden):
        return hidden

    def new_state(self, batch, capacity):
        raise AssertionError("a needle test reads whole texts")

    @classmethod
    def tiny(cls, **changes):
        raise AssertionError


def reader(sight=10**9):
    tokenizer = tiny_tokenizer()
    return Model(Reader(tokenizer, sight), tokenizer, None)


@pytest.mark.parametrize("length", [240, 400, 801])
@pytest.mark.parametrize("depth", [0.0, 0.35, 1.0])
def test_a_text_has_its_length_its_depth_and_one_answer(length, depth):
    model, config = reader(), Needle(lengths=[length], distractors=2)
    prompt, answer = episode(model, config, length, depth, trial=3)
    assert length - 80 < len(prompt) + len(answer) <= length
    text = model.tokenizer.decode(prompt)
    facts = dict(FACT.findall(text))
    asked = re.search(r"The passcode of (\w+) is$", text)[1]
    assert len(facts) == 3 and len(set(facts.values())) == 3
    assert model.tokenizer.decode(answer) == f" {facts[asked]}"
    place = text.index(f"The passcode of {asked}") / text.rindex("The passcode of")
    assert abs(place - depth) < 60 / length + 0.2 * (depth not in (0.0, 1.0))


def test_texts_depend_on_the_seed_and_nothing_else():
    model = reader()
    one, two, other = (episode(model, Needle(lengths=[300], seed=seed), 300, 0.5, 0) for seed in (1, 1, 2))
    assert one == two != other


def test_a_model_that_looks_up_finds_all_and_a_short_sighted_one_what_is_near():
    config = Needle(lengths=[240, 480], depths=[0.0, 1.0], trials=4)
    assert search(reader(), "far", config).right.all()
    near = search(reader(sight=120), "near", config)
    assert near.right[:, 1].all() and not near.right[:, 0].any()
    figures = near.figures()
    assert figures["by_length"][1]["found"] == 0.5 and figures["by_length"][1]["worst_depth"] == 0.0
    assert figures["by_length"][0]["probability"] == pytest.approx(0.5, abs=0.01)
    assert rows([near])[0][4] == "0: 0%"


def test_a_random_model_finds_nothing(tmp_path):
    write_tiny(tmp_path)
    score = search(load(tmp_path), "random", Needle(lengths=[240], depths=[0.5], trials=3))
    assert not score.right.any() and (score.probability < 0.1).all()


def test_models_of_other_kinds_are_refused(tmp_path):
    write_tiny(tmp_path, "bert")
    with pytest.raises(BadInput, match="left to right"):
        search(load(tmp_path), "bert", Needle(lengths=[240]))


def test_another_fact_may_be_asked_for_in_another_language():
    model = reader()
    prompt, answer = episode(model, Needle(lengths=[500], fact="{name}的口令是{code}。"), 500, 0.5, 0)
    text = model.tokenizer.decode(prompt)
    assert re.search(r" \w+的口令是$", text) and model.tokenizer.decode(answer) in CODES


def test_the_heat_map_has_a_cell_for_each_depth_and_length():
    config = Needle(lengths=[100, 600], depths=[0.0, 0.5, 1.0], trials=2)
    right = np.zeros((2, 3, 2), bool)
    right[0] = True
    figure = heat_map(NeedleScore("model", 512, config, right, right.astype(float)))
    (axes,) = figure.axes
    assert sorted(text.get_text() for text in axes.texts) == ["0%"] * 3 + ["100%"] * 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["100", "600"]
    assert len(axes.lines) == 1, "where the context ends"


def test_words_are_told_apart():
    assert len(set(NAMES)) == len(NAMES) and len(set(CODES)) == len(CODES) == 64
    drawn = {sentence(np.random.default_rng(seed)) for seed in range(50)}
    assert len(drawn) == 50 and all(text.endswith(".") and not set(text[:-1].split()) & set(CODES) for text in drawn)
