"""Guessing ahead: whatever is guessed, answers stay the same token for token, and guesses are made where they pay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.fake_runner import VOCAB, FakeRunner, next_logits
from tests.engine.test_engine import asked, engine_of, settled
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.engine import speculate
from danlu.engine.engine import Engine
from danlu.engine.events import PromptEvent
from danlu.engine.job import Job
from danlu.engine.model import load
from danlu.engine.opening import Serving, choose_runner
from danlu.engine.request import Sampling
from danlu.engine.runners.solo import SoloRunner
from danlu.engine.scheduler import Limits
from danlu.engine.speculate import NOTHING, DraftModel, Gated, Lookup, Prices, best_count, opened, prices
from danlu.engine.work import Piece

# ---- no answer changes


class Wild:
    """Guesses anything, often what the fake model finds likeliest."""

    def __init__(self, seed=0):
        self.random, self.forgotten = np.random.default_rng(seed), []

    def propose(self, row, ids, most):
        guesses = []
        for _ in range(self.random.integers(0, most + 1)):
            likely = int(next_logits([*ids, *guesses]).argmax())
            guesses.append(likely if self.random.random() < 0.7 else int(self.random.integers(VOCAB)))
        return np.array(guesses, np.int64)

    def forget(self, row):
        self.forgotten.append(row)


def said(ear):
    """The events but for what was found in the cache: that depends on who came first."""
    return [replace(event, cached_tokens=0) if isinstance(event, PromptEvent) else event for event in ear.events]


PROMPTS = st.lists(st.integers(2, VOCAB - 1), min_size=1, max_size=12)
SAMPLING = st.sampled_from([
    {"temperature": 0}, {"temperature": 1.0}, {"temperature": 0.3, "top_p": 0.9}, {"top_k": 4, "repetition_penalty": 1.3},
    {"temperature": 0.6, "frequency_penalty": 0.7, "presence_penalty": 0.2}, {"typical_p": 0.8},
    {"temperature": 0.2, "min_tokens": 6},
])  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    jobs=st.lists(st.tuples(PROMPTS, st.integers(1, 14), SAMPLING, st.integers(0, 9)), min_size=1, max_size=5),
    seed=st.integers(0, 99), most=st.integers(1, 6), batch_tokens=st.integers(1, 20), lookup=st.booleans(),
)  # fmt: skip
def test_answers_are_those_without_guesses(jobs, seed, most, batch_tokens, lookup):
    wanted = [Job(tuple(ids), Sampling(seed=number, **sampling), room, ends=frozenset({3}), logprobs=2)
              for ids, room, sampling, number in jobs]  # fmt: skip
    with engine_of(FakeRunner(64)) as engine:
        alone = asked(engine, *wanted)
    drafter = Lookup(least=1) if lookup else Wild(seed)
    with engine_of(FakeRunner(64), batch_tokens=batch_tokens, drafter=drafter, most_drafts=most) as engine:
        for before, after in zip(alone, asked(engine, *wanted), strict=True):
            assert said(after) == said(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("qwen3", "gpt2", "mamba2", "llama"):
        write_tiny(folder / name, name, seed=5)
    return {name: load(folder / name) for name in ("qwen3", "gpt2", "mamba2", "llama")}


def answers(model, drafter, sampling, constraint=None):
    texts = ["again and again and again and", "one 丹", "abcabcabcabc"]
    jobs = [Job(tuple(model.encode(text)), sampling, 24, ends=model.ends, constraint=constraint) for text in texts]
    with Engine(SoloRunner(model), model.tokenizer.vocab_size, Limits(4, 64, 8), drafter=drafter, most_drafts=5) as engine:
        ears = asked(engine, *jobs)
        return [ear.ids() for ear in ears], settled(engine)


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0}, {"temperature": 0.4, "seed": 2}, {"top_k": 5, "repetition_penalty": 0.8}]
)
@pytest.mark.parametrize("family", ["qwen3", "gpt2", "mamba2"])
def test_the_same_with_real_models_and_a_draft_model(models, family, sampling):
    model, sampling = models[family], Sampling(**sampling)
    plain, _ = answers(model, None, sampling)
    for drafter in (Lookup(), DraftModel(SoloRunner(model), 259), DraftModel(SoloRunner(models["llama"]), 259)):
        guessed, status = answers(model, drafter, sampling)
        assert guessed == plain
    assert status.drafted_tokens > 0


def test_a_draft_model_that_is_the_model_is_always_right(models):
    model = models["qwen3"]
    _, status = answers(model, DraftModel(SoloRunner(model), 259), Sampling(temperature=0, ignore_eos=True))
    assert status.accepted_tokens == status.drafted_tokens > 50


def test_with_compiled_kernels_every_logit_stays_the_same_too(models):
    model = models["llama"]
    runner = choose_runner(model, Serving(rows=4, cache_tokens=1024), {})
    if "exact" not in runner.kernel:
        pytest.skip("compiled kernels need a C compiler")
    jobs = [
        Job(tuple(model.encode(text)), Sampling(temperature=0.5, seed=1), 30, logprobs=3) for text in ("abc abc abc", "1 2 1 2 1")
    ]
    told = []
    for drafter in (None, Lookup(least=1), Gated(Lookup(least=1), Prices((1, 2), (1.0, 1.01)))):
        runner = choose_runner(model, Serving(rows=4, cache_tokens=1024), {})
        with Engine(runner, 259, Limits(4, 64, 8), drafter=drafter, most_drafts=4) as engine:
            told.append([ear.events for ear in asked(engine, *jobs)])
            assert drafter is None or settled(engine).drafted_tokens > 0
    assert told[0] == told[1] == told[2]


def test_forms_are_kept_under_guesses(models):
    pytest.importorskip("llguidance", reason="forms need the extra `serve`")
    from danlu.engine.constrain.compile import compile

    model = models["llama"]
    held = compile("json_schema", {"type": "object", "properties": {"again": {"enum": ["and again", "and"]}},
                                   "required": ["again"], "additionalProperties": False},
                   model.tokenizer, model.ends)  # fmt: skip
    sampling = Sampling(temperature=1.0, seed=3)
    plain, _ = answers(model, None, sampling, held)
    guessed, status = answers(model, Lookup(least=1), sampling, held)
    assert guessed == plain and status.drafted_tokens > 0
    assert all(model.tokenizer.decode(ids).startswith("{") for ids in plain)


def test_what_is_drawn_after_a_guess_follows_the_models_own_distribution():
    """Pairs of tokens over 1500 seeds, the second of each guessed: chi-square against the product of the chances."""
    from scipy.stats import chisquare

    class Likeliest:
        def propose(self, row, ids, most):
            return np.array([next_logits(ids).argmax()][:most], np.int64)

        def forget(self, row):
            pass

    def chances(ids):
        logits = next_logits(ids).astype(float) / 2
        best = np.argsort(-logits)[:3]
        weights = np.exp(logits[best])
        return dict(zip(best.tolist(), weights / weights.sum(), strict=True))

    prompt = next((token, 9, 14) for token in range(VOCAB) if max(chances((token, 9, 14)).values()) < 0.6)
    with engine_of(FakeRunner(64), rows=8, batch_tokens=64, waiting=5000, drafter=Likeliest(), most_drafts=1) as engine:
        pairs = [
            tuple(ear.ids()[:2])
            for ear in asked(engine, *(Job(prompt, Sampling(temperature=2, top_k=3, seed=seed), 3) for seed in range(1500)))
        ]
        status = engine.status()

    expected = {(one, two): first * second for one, first in chances(prompt).items()
                for two, second in chances((*prompt, one)).items()}  # fmt: skip
    counted = [pairs.count(pair) for pair in expected]
    assert sum(counted) == len(pairs) and 0 < status.accepted_tokens < status.drafted_tokens
    assert chisquare(counted, [chance * len(pairs) for chance in expected.values()]).pvalue > 1e-3


# ---- what guesses


def looked_up(ids, most, least, longest):
    """Prompt lookup by its definition: the longest end of the text that stood before; of equals the latest; what followed it."""
    for length in range(min(longest, len(ids) - 1), least - 1, -1):
        for start in range(len(ids) - length - 1, -1, -1):
            if ids[start : start + length] == ids[-length:]:
                after = ids[start + length :]
                return (after * most)[:most]
    return []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 6), st.integers(1, 3), st.integers(3, 8))
def test_lookup_is_its_definition(ids, most, least, longest):
    assert Lookup(least, longest).propose(0, np.array(ids, np.int64), most).tolist() == looked_up(ids, most, least, longest)


class Fixed:
    """A drafter that always says the same."""

    def __init__(self, *tokens):
        self.tokens, self.asked = np.array(tokens), []

    def propose(self, row, ids, most):
        self.asked.append(most)
        return self.tokens[:most]

    def forget(self, row):
        pass


def test_a_gate_falls_silent_where_guesses_are_wrong_and_tries_again_now_and_then():
    gate = Gated(fixed := Fixed(1, 1, 1, 1), Prices((1, 2, 3, 4, 5), (1, 1.4, 1.6, 1.8, 2.0)))
    ids = np.array([0])
    counts = []
    for _ in range(200):
        counts.append(len(gate.propose(0, ids, 4)))
        ids = np.append(ids, 2)  # never what was guessed
    assert counts[0] > 0 and sum(counts[20:]) <= 200 / 32 + 1 and sum(counts[20:]) > 0
    assert gate.propose(1, ids, 4).size > 0  # another row has its own opinion
    assert max(fixed.asked) <= 4


def test_a_gate_guesses_more_where_guesses_are_right():
    gate = Gated(Fixed(1, 1, 1, 1, 1, 1), Prices((1, 7), (1, 1.6)))
    ids = np.array([0])
    for _ in range(30):
        count = len(gate.propose(0, ids, 6))
        ids = np.append(ids, [1] * (count + 1))
    assert count == 6
    assert len(gate.propose(0, ids, 2)) <= 2


@given(st.floats(0, 1), st.lists(st.floats(1, 5), max_size=6))
def test_the_best_count_yields_most_tokens_for_its_time(rate, more):
    costs = [1.0, *more]

    def value(count):
        return sum(rate**k for k in range(count + 1)) / costs[count]

    best = best_count(rate, costs)
    assert value(best) == pytest.approx(max(map(value, range(len(costs)))))


def test_a_draft_model_in_blocks_says_what_it_says_alone():
    runner = FakeRunner(blocks=40)
    drafter, ids = DraftModel(runner, VOCAB), [4, 8, 15]
    random = np.random.default_rng(0)
    for _ in range(25):
        for row in (0, 1):  # two rows of the same text do not disturb each other
            guesses = drafter.propose(row, np.array(ids), 3).tolist()
            expected = []
            while len(expected) < 3:
                expected.append(int(next_logits([*ids, *expected]).argmax()))
            assert guesses == expected
        ids += guesses[: random.integers(0, 4)] or [int(random.integers(VOCAB))]  # some guesses right, some wrong
        if len(ids) > 50:
            break
    drafter.forget(0)
    drafter.forget(1)
    assert drafter._pool.used == 0
    assert drafter.propose(0, np.array(ids * 20), 3) is NOTHING  # longer than its context


def test_a_gate_guesses_less_the_more_rows_share_a_step():
    """Nine tokens cost little more than one here, and thirty-three much more."""
    gate = Gated(Fixed(1, 1, 1, 1), Prices((1, 9, 33), (1.0, 1.2, 8.0)))
    assert len(gate.propose(0, np.array([0]), 4)) == 4
    for row in range(1, 17):
        last = len(gate.propose(row, np.array([0]), 4))
    assert last == 0
    for row in range(1, 17):
        gate.forget(row)
    assert len(gate.propose(0, np.array([0, 1, 1, 1, 1, 2]), 4)) == 4


def test_a_drafter_that_fails_is_asked_no_more(capsys):
    class Failing(Fixed):
        def propose(self, row, ids, most):
            self.asked.append(most)
            raise RuntimeError("a bug in guessing")

    gate = Gated(failing := Failing(), Prices((1, 5), (1.0, 1.1)))
    assert [len(gate.propose(0, np.array([0]), 4)) for _ in range(3)] == [0, 0, 0]
    assert len(failing.asked) == 1


def test_prices_are_measured_and_there_are_none_where_nothing_can_be_taken_back(models):
    found = prices(SoloRunner(models["qwen3"]), sizes=(1, 2, 4), read=16, seconds=0.05)
    assert found.tokens == (1, 2, 4) and min(found.seconds) > 0
    assert prices(SoloRunner(models["mamba2"]), read=16, seconds=0.05) is None
    assert prices(FakeRunner(), sizes=(1, 3), seconds=0.02) is not None


def test_a_drafter_is_opened_only_where_it_cannot_change_a_token_and_can_pay(monkeypatch):
    monkeypatch.setattr(speculate, "prices", lambda runner: Prices((1, 5), (1.0, 5.5)))
    assert opened(FakeRunner(), VOCAB, 4) is None
    monkeypatch.setattr(speculate, "prices", lambda runner: Prices((1, 5), (1.0, 1.5)))
    assert len(opened(FakeRunner(), VOCAB, 4).propose(0, np.array([5, 6, 5, 6]), 4)) > 0
    assert len(opened(FakeRunner(), VOCAB, 4, draft=FakeRunner()).propose(0, np.array([5, 6]), 4)) > 0
    rough = FakeRunner()
    rough.kernel = "fake, rounding as it likes"
    assert opened(rough, VOCAB, 4) is None and opened(FakeRunner(), VOCAB, 0) is None


def test_tokens_of_the_tokenizer_alone_are_guessed():
    class Padded:
        vocab_size, context, block_tokens, blocks = 12, 50, 0, 0

        def run(self, pieces: list[Piece]):
            return [np.arange(12, dtype=np.float32)[None] for _ in pieces]

        def forget(self, row):
            pass

    assert DraftModel(Padded(), 10).propose(0, np.array([1]), 2).tolist() == [9, 9]
    assert tiny_tokenizer().vocab_size == 259
