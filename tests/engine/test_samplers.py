"""Each sampling step against its definition in plain Python and against transformers' own processors."""

import math

import numpy as np
import pytest

from danlu.core.settings import Named
from danlu.engine.draw import NoToken, chance, logprobs, pick, pick_plain
from danlu.engine.request import Sampling
from danlu.engine.samplers import ORDER, SAMPLERS, Seen

ROWS, VOCABULARY = 3, 17
SETTINGS = {"greedy": {}, "temperature": {"temperature": 0.7}, "top_k": {"k": 5}, "top_p": {"p": 0.8}, "min_p": {"p": 0.2},
            "repetition_penalty": {"penalty": 1.3}, "frequency_penalty": {"penalty": 0.7}, "presence_penalty": {"penalty": -0.6},
            "logit_bias": {"bias": {3: 4.5, 16: -100.0}}, "typical_p": {"p": 0.6}, "constraint": {},
            "min_tokens": {"tokens": 3, "ends": [0, 5]}}  # fmt: skip
NOTHING = Seen(np.array([], np.int64))
ALLOWED = np.arange(VOCABULARY) % 3 == 1


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 2, (ROWS, VOCABULARY)).astype(np.float32)


@pytest.fixture
def seen():
    ids = [np.array([1, 4, 4]), np.array([], np.int64), np.array([16, 0, 3, 2, 0])]
    return [Seen(ids[0], 1), Seen(ids[1], 0, ALLOWED), Seen(ids[2], 1)]


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
        return [(value - max(row)) / 0.7 for value in row]
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
    elif name == "typical_p":
        entropy = -sum(value * math.log(value) for value in chances)
        kept, mass = set(), 0.0
        for token in sorted(order, key=lambda token: abs(-math.log(chances[token]) - entropy)):
            if mass >= 0.6:
                break
            kept.add(token)
            mass += chances[token]
    elif name == "constraint":
        kept = set(order) if seen.allowed is None else {token for token in order if token % 3 == 1}
    elif name == "min_tokens":
        kept = set(order) - {0, 5} if len(seen.answer) < 3 else set(order)
    elif name == "logit_bias":
        return [value + {3: 4.5, 16: -100.0}.get(token, 0) for token, value in enumerate(row)]
    elif name == "frequency_penalty":
        return [value - 0.7 * seen.answer.tolist().count(token) for token, value in enumerate(row)]
    elif name == "presence_penalty":
        return [value + 0.6 * (token in seen.answer) for token, value in enumerate(row)]
    else:
        return [(v / 1.3 if v > 0 else v * 1.3) if token in seen.ids else v for token, v in enumerate(row)]
    return [value if token in kept else -math.inf for token, value in enumerate(row)]


def processor(name):
    from transformers import generation as g

    return {"temperature": lambda: g.TemperatureLogitsWarper(0.7), "top_k": lambda: g.TopKLogitsWarper(5),
            "top_p": lambda: g.TopPLogitsWarper(0.8), "min_p": lambda: g.MinPLogitsWarper(0.2),
            "typical_p": lambda: g.TypicalLogitsWarper(0.6),
            "min_tokens": lambda: g.MinNewTokensLengthLogitsProcessor(1, 3, [0, 5]),
            "logit_bias": lambda: g.SequenceBiasLogitsProcessor([[[3], 4.5], [[16], -100.0]]),
            "repetition_penalty": lambda: g.RepetitionPenaltyLogitsProcessor(1.3)}[name]()  # fmt: skip


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_every_sampler_is_in_the_documented_order_and_has_a_default(name):
    assert name in ORDER
    assert issubclass(SAMPLERS[name].Config, Named)
    assert SAMPLERS.build(SAMPLERS[name].Config())(np.zeros((2, 3), np.float32), [Seen(np.array([0]))] * 2).shape == (2, 3)


@pytest.mark.parametrize("name", SETTINGS)
def test_vectorised_equals_the_definition(name, logits, seen):
    got = build(name)(logits, seen)
    expected = [plain(name, row.tolist(), request) for row, request in zip(logits, seen, strict=True)]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.array(expected, np.float32), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"greedy", "constraint", "frequency_penalty", "presence_penalty"}))
def test_transformers_agrees(name, logits):
    torch = pytest.importorskip("torch")
    ids = np.array([[1, 4, 4], [7, 7, 2], [16, 0, 3]])
    expected = processor(name)(torch.tensor(ids), torch.tensor(logits)).numpy()
    got = build(name)(logits, [Seen(row, 1) for row in ids])
    if name == "temperature":  # ours are counted from the largest
        expected = expected - expected.max(axis=-1, keepdims=True)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


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
        assert pick(row, NOTHING, [], seed=5, step=step) == pick_plain(row.tolist(), chance(5, step))


def test_excluded_tokens_are_never_drawn_and_frequencies_follow_the_probabilities():
    row = np.log(np.array([0.5, 0.2, 0.0, 0.3], np.float32), where=[True, True, False, True], out=np.full(4, -np.inf, np.float32))
    drawn = np.bincount([pick(row, NOTHING, [], 1, step) for step in range(4000)], minlength=4)
    assert drawn[2] == 0
    np.testing.assert_allclose(drawn / 4000, np.exp(row), atol=0.03)


def test_seeds_and_steps_decide_alone():
    row = np.zeros(1000, np.float32)
    assert [pick(row, NOTHING, [], 7, step) for step in range(9)] == [pick(row, NOTHING, [], 7, step) for step in range(9)]
    assert [pick(row, NOTHING, [], 7, step) for step in range(9)] != [pick(row, NOTHING, [], 8, step) for step in range(9)]


def test_a_short_answer_may_end_where_nothing_else_is_left():
    only = np.full((1, 4), -np.inf, np.float32)
    only[0, 2] = 0.0
    for tokens in (1, None):
        step = SAMPLERS.build(SAMPLERS["min_tokens"].Config(tokens=tokens, ends=[2]))
        np.testing.assert_array_equal(step(only, [NOTHING]), only)


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e-5])
def test_no_temperature_is_too_small_to_divide_by(temperature):
    chain = Sampling(temperature=temperature).chain()
    assert pick(np.float32([3e38, 1, -3e38]), NOTHING, chain, 0, 0) == 0
    assert pick(np.float32([1, 1.001, -np.inf]), NOTHING, chain, 0, 0) == 1


@pytest.mark.parametrize("row", [[1, np.nan, 2], [np.inf, 0, 0], [-np.inf] * 3])
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 0.5, "top_p": 0.9}, {"logit_bias": {1: -100}}])
def test_logits_without_a_choice_are_refused(row, settings):
    with pytest.raises(NoToken):
        pick(np.float32(row), NOTHING, Sampling(**settings).chain(), 0, 0)


def test_log_probabilities_are_those_of_log_softmax_and_of_equals_the_smaller_id_comes_first():
    torch = pytest.importorskip("torch")
    row = np.random.default_rng(5).normal(0, 4, 301).astype(np.float32)
    row[[7, 3]] = 20
    expected = torch.tensor(row).log_softmax(-1)
    logprob, top = logprobs(row, 9, 5)
    assert [number for number, _ in top] == [3, 7, *expected.argsort(descending=True)[2:5].tolist()]
    np.testing.assert_allclose([logprob, *(value for _, value in top)], expected[[9, *(n for n, _ in top)]], rtol=1e-6)


def test_the_chain_holds_only_what_changes_something_in_the_documented_order():
    everything = Sampling(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1, typical_p=0.9, repetition_penalty=1.2, min_tokens=2,
                          frequency_penalty=0.1, presence_penalty=0.1, logit_bias={1: 2.0})  # fmt: skip
    assert [step.config.name for step in everything.chain(ends={0}, constrained=True)] == [*ORDER[:-1]]
    assert [step.config.name for step in Sampling(temperature=0, top_k=3).chain()] == ["greedy"]
    assert Sampling(temperature=1).chain(ends={0}) == []
    (held,) = Sampling(temperature=1, ignore_eos=True).chain(ends={0})
    assert held.config.tokens is None


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": math.inf}, {"temperature": math.nan}, {"repetition_penalty": math.inf}, {"logit_bias": {1: 101}},
     {"logit_bias": {1: math.nan}}, {"frequency_penalty": -2.5}, {"presence_penalty": math.nan}, {"typical_p": 0},
     {"top_p": math.nan}, {"min_p": math.nan}, {"min_tokens": 5, "max_tokens": 4}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        Sampling(**wrong)
