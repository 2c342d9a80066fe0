"""Word vectors: GloVe's table and objective by hand, gensim's way in, and what both must find in a text made for it."""

import itertools
import math
import random

import numpy as np
import pytest
import torch

from danlu.core.errors import MissingExtra, NoUsableText
from danlu.train.vectors import VECTORS
from danlu.train.vectors.base import Vocabulary
from danlu.train.vectors.glove import Pairs, meetings

DRINKS, METALS = ("tea", "wine", "milk", "water"), ("iron", "gold", "tin", "lead")


def sentences(seed=0, count=1500):
    """Drinks are mostly poured and drunk, metals mostly forged and dug: GloVe learns nothing from what never meets."""
    dice = random.Random(seed)
    for _ in range(count):
        kind, (first, second) = dice.choice([(DRINKS, ("pour", "drink")), (METALS, ("forge", "dig"))])
        kind = dice.choice([DRINKS, METALS]) if dice.random() < 0.1 else kind
        yield [dice.choice(["we", "they", "you"]), dice.choice([first, second]), "the", dice.choice(kind), "at", "noon"]


def learn(name, seed=1, **settings):
    method = VECTORS.build(VECTORS[name].Config(**{"dimensions": 12, "min_count": 2, "epochs": 12, **settings}))
    texts = list(sentences())
    return method.learn(lambda: texts, Vocabulary.of(texts, 2), seed)


def test_meetings_of_four_words_counted_by_hand():
    """a b c a, window 2: neighbours at distance 1 count one, at distance 2 a half, both ways round."""
    texts = [["a", "b", "c", "a"], ["c"], ["rare"], ["a"]]
    vocabulary = Vocabulary.of(texts, 1)
    assert vocabulary.words == ["a", "c", "b", "rare"] and vocabulary.counts == [3, 2, 1, 1]
    table = zip(*meetings(lambda: texts, vocabulary, 2), strict=True)
    found = {(vocabulary.words[i], vocabulary.words[j]): x for i, j, x in table}
    wanted = {("a", "b"): 1.5, ("b", "c"): 1.0, ("a", "c"): 1.5}
    assert found == {pair: x for (i, j), x in wanted.items() for pair in ((i, j), (j, i))}


def test_the_objective_is_equation_8():
    model = Pairs(3, 4, seed=0)
    i, j, x = torch.tensor([0, 2, 1]), torch.tensor([1, 1, 0]), torch.tensor([1.0, 4.0, 30.0])
    wanted = 0.0
    for row, column, times in zip(i.tolist(), j.tolist(), x.tolist(), strict=True):
        product = sum(model.w.weight[row, d].item() * model.v.weight[column, d].item() for d in range(4))
        error = product + model.b.weight[row].item() + model.c.weight[column].item() - math.log(times)
        wanted += min(1.0, (times / 8) ** 0.75) * error**2
    assert model.objective(i, j, x, 8.0, 0.75).item() == pytest.approx(wanted, rel=1e-5)


def test_gloves_objective_falls_and_its_products_approach_the_logarithms():
    losses = learn("glove", window=2, epochs=150, x_max=1.0)[1]["losses"]
    assert losses[-1] < 0.05 * losses[0]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


@pytest.mark.parametrize("name", VECTORS.names())
def test_words_that_occur_alike_come_together(name):
    if name == "skipgram":
        pytest.importorskip("gensim")
    more = {"skipgram": {"epochs": 20, "learning_rate": 0.05, "sample": 0.0}, "glove": {"epochs": 400, "x_max": 1.0}}
    found, _ = learn(name, window=2, **more[name])
    inside = [found.similarity(a, b) for kind in (DRINKS, METALS) for a in kind for b in kind if a < b]
    across = [found.similarity(a, b) for a in DRINKS for b in METALS]
    assert np.mean(inside) > np.mean(across) + 0.1


@pytest.mark.parametrize("name", VECTORS.names())
def test_the_same_seed_gives_the_same_vectors_and_another_gives_others(name):
    if name == "skipgram":
        pytest.importorskip("gensim")
    first, second, third = (learn(name, seed, epochs=2)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.vectors, second.vectors) and not np.array_equal(first.vectors, third.vectors)
    assert first.words == second.words and first.vectors.shape == (len(first.words), 12)


def test_rare_words_are_left_out_and_too_few_words_are_an_error():
    vocabulary = Vocabulary.of([["a"] * 3 + ["b"] * 2 + ["c"], ["b"]], 2)
    assert vocabulary.words == ["a", "b"] and vocabulary.total == 7
    with pytest.raises(NoUsableText, match="1 stand in the text 3 times or more"):
        Vocabulary.of([["a"] * 3 + ["b"] * 2], 3)


def test_without_gensim_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gensim.models", None)
    with pytest.raises(MissingExtra, match=r"danlu\[vectors\]"):
        learn("skipgram")
