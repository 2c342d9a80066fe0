"""Each sampling step against its definition in plain Python and against transformers' own processors."""

import math

import numpy as np
import pytest

from danlu.core.settings import Named
from danlu.engine.draw import chance, pick, pick_plain
from danlu.engine.request import Sampling
from danlu.engine.samplers import ORDER, SAMPLERS, softmax

ROWS, VOCABULARY = 3, 17
SETTINGS = {"greedy": {}, "temperature": {"temperature": 0.7}, "top_k": {"k": 5}, "top_p": {"p": 0.8}, "min_p": {"p": 0.2},
            "repetition_penalty": {"penalty": 1.3}}  # fmt: skip


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (ROWS, VOCABULARY)).astype(np.float32)


@pytest.fixture
def seen():
    return [np.array([1, 4, 4]), np.array([], np.int64), np.array([16, 0, 3, 2, 0])]


def build(name):
    return SAMPLERS.build(SAMPLERS[name].Config(**SETTINGS.get(name, {})))


def plain(name, row, seen):
    """One row, element by element, straight from the definition."""
    chances = [math.exp(value) for value in row]
    chances = [value / sum(chances) for value in chances]
    order = sorted(range(len(row)), key=lambda token: (-row[token], token))
    if name == "greedy":
        kept = {order[0]}
    elif name == "temperature":
        return [value / 0.7 for value in row]
    elif name == "top_k":
        kept = set(order[:5])
    elif name == "top_p":
        kept, mass = set(), 0.0
        for token in order:
            if mass >= 0.8:
                break
            kept.add(token)
            mass += chances[token]
    elif name == "min_p":
        kept = {token for token in order if chances[token] >= 0.2 * max(chances)}
    else:
        return [(v / 1.3 if v > 0 else v * 1.3) if token in seen else v for token, v in enumerate(row)]
    return [value if token in kept else -math.inf for token, value in enumerate(row)]


def processor(name):
    from transformers import generation as g

    return {"temperature": lambda: g.TemperatureLogitsWarper(0.7), "top_k": lambda: g.TopKLogitsWarper(5),
            "top_p": lambda: g.TopPLogitsWarper(0.8), "min_p": lambda: g.MinPLogitsWarper(0.2),
            "repetition_penalty": lambda: g.RepetitionPenaltyLogitsProcessor(1.3)}[name]()  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sampler_is_in_the_documented_order_and_has_a_default(name):
    assert name in ORDER
    assert issubclass(SAMPLERS[name].Config, Named)
    assert SAMPLERS.build(SAMPLERS[name].Config())(np.zeros((2, 3), np.float32), [np.array([0])] * 2).shape == (2, 3)


@pytest.mark.parametrize("name", SETTINGS)
def test_vectorised_equals_the_definition(name, logits, seen):
    got = build(name)(logits, seen)
    expected = [plain(name, row.tolist(), set(ids.tolist())) for row, ids in zip(logits, seen, strict=True)]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.array(expected, np.float32), rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "greedy"])
def test_transformers_agrees(name, logits):
    torch = pytest.importorskip("torch")
    ids = np.array([[1, 4, 4], [7, 7, 2], [16, 0, 3]])
    expected = processor(name)(torch.tensor(ids), torch.tensor(logits)).numpy()
    np.testing.assert_allclose(build(name)(logits, list(ids)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_row_does_not_depend_on_its_neighbours(name, logits, seen):
    together = build(name)(logits, seen)
    for row in range(ROWS):
        np.testing.assert_array_equal(together[row : row + 1], build(name)(logits[row : row + 1], seen[row : row + 1]))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_logits_that_came_in_are_left_alone(name, logits, seen):
    before = logits.copy()
    build(name)(logits, seen)
    np.testing.assert_array_equal(logits, before)


def test_the_draw_equals_walking_the_distribution():
    random = np.random.default_rng(3)
    for step in range(200):
        row = random.normal(0, 2, 11).astype(np.float32)
        assert pick(row, np.array([], np.int64), [], seed=5, step=step) == pick_plain(row.tolist(), chance(5, step))


def test_excluded_tokens_are_never_drawn_and_frequencies_follow_the_probabilities():
    row = np.log(np.array([0.5, 0.2, 0.0, 0.3], np.float32), where=[True, True, False, True], out=np.full(4, -np.inf, np.float32))
    drawn = np.bincount([pick(row, np.array([]), [], 1, step) for step in range(4000)], minlength=4)
    assert drawn[2] == 0
    np.testing.assert_allclose(drawn / 4000, softmax(row[None])[0], atol=0.03)


def test_seeds_and_steps_decide_alone():
    row = np.zeros(1000, np.float32)
    none = np.array([], np.int64)
    assert [pick(row, none, [], 7, step) for step in range(9)] == [pick(row, none, [], 7, step) for step in range(9)]
    assert [pick(row, none, [], 7, step) for step in range(9)] != [pick(row, none, [], 8, step) for step in range(9)]


def test_the_chain_holds_only_what_changes_something_in_the_documented_order():
    everything = Sampling(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, repetition_penalty=1.2)
    names = [step.config.name for step in everything.chain()]
    assert names == ["repetition_penalty", "temperature", "top_k", "top_p", "min_p"]
    assert [step.config.name for step in Sampling(temperature=0, top_k=3).chain()] == ["greedy"]
    assert Sampling(temperature=1).chain() == []
