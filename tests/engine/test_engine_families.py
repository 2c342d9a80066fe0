"""Every family that writes answers through the engine what it answers by itself, whatever computes it and whoever else asks."""

import queue

import pytest
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.engine.events import EndEvent, FaultEvent, PromptEvent, TokenEvent
from danlu.engine.generate import answer_room
from danlu.engine.job import Job
from danlu.engine.model import load
from danlu.engine.opening import Serving, choose_runner, open_engine
from danlu.engine.request import Sampling
from danlu.engine.runners import packed
from danlu.engine.runners.recurrent import RecurrentRunner
from danlu.engine.runners.solo import SoloRunner
from danlu.engine.source import source_ids
from danlu.models import MODELS
from danlu.models.base import CausalLM, Seq2SeqLM

CAUSAL = [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM)]
SEQ2SEQ = [name for name in MODELS.names() if issubclass(MODELS[name], Seq2SeqLM)]
TEXTS = ("The quick 丹 brown fox", "a", "The quick 丹 炉 burns", "0123456789 " * 3)
GREEDY = Sampling(temperature=0, max_tokens=9, ignore_eos=True)

DIVISIBLE = {
    "gpt2": {"n_embd": 96, "n_inner": 64},
    "gemma2": {"hidden_size": 96, "intermediate_size": 64, "head_dim": 16},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny folders by family, each made and opened once."""
    made = {}

    def opened(family):
        if family not in made:
            folder = tmp_path_factory.mktemp("models") / family
            start = {"decoder_start_token_id": tiny_tokenizer().start_id} if family in SEQ2SEQ else {}
            write_tiny(folder, family, **start)
            made[family] = load(folder)
        return made[family]

    return opened


def job(model, text, sampling=GREEDY, **more):
    """The request that `Model.write` would make of a text."""
    if isinstance(model.model, Seq2SeqLM):
        start = model.model.config.decoder_start_token_id
        return Job((start,), sampling, answer_room(1, sampling.max_tokens, model.context), model.ends,
                   source=tuple(source_ids(model.tokenizer, text, model.context)), **more)  # fmt: skip
    ids = tuple(model.encode(text))
    return Job(ids, sampling, answer_room(len(ids), sampling.max_tokens, model.context), model.ends, **more)


def told(engine, jobs):
    """Ids and reason of each job's answer; all are asked at once."""
    lines = [queue.SimpleQueue() for _ in jobs]
    for asked, line in zip(jobs, lines, strict=True):
        engine.submit(asked, line.put)
    return [_followed(line) for line in lines]


def _followed(line):
    ids = []
    while True:
        event = line.get(timeout=20)
        assert not isinstance(event, FaultEvent), event
        if isinstance(event, TokenEvent):
            ids.append(event.token)
        elif isinstance(event, EndEvent):
            return ids, event.reason
        else:
            assert isinstance(event, PromptEvent)


def written(model, text, sampling=GREEDY):
    writing = model.write(text, sampling)
    list(writing)
    return writing.ids, writing.reason


@pytest.mark.parametrize("family", CAUSAL)
def test_answers_are_those_of_the_model_alone(family, models):
    model = models(family)
    wanted = [written(model, text) for text in TEXTS]
    with open_engine(model, Serving(rows=3, batch_tokens=11, cache_tokens=128, weights="fp32")) as engine:
        assert told(engine, [job(model, text) for text in TEXTS]) == wanted
        assert told(engine, [job(model, text) for text in reversed(TEXTS)]) == wanted[::-1]  # now from blocks that are held
    assert MODELS[family].counted or len({tuple(ids) for ids, _ in wanted}) > 1


@pytest.mark.parametrize("family", CAUSAL)
def test_the_plain_twin_says_the_same(family, models):
    model = models(family)
    with open_engine(model, Serving(runner="solo", rows=2)) as engine:
        assert told(engine, [job(model, text) for text in TEXTS]) == [written(model, text) for text in TEXTS]


@pytest.mark.parametrize("family", CAUSAL)
def test_torchs_way_says_the_same_also_where_native_code_serves(family, models):
    model = models(family)
    if packed.unfit(model) is None:
        with open_engine(model, Serving(runner="packed", rows=3, batch_tokens=11, cache_tokens=128)) as engine:
            assert told(engine, [job(model, text) for text in TEXTS]) == [written(model, text) for text in TEXTS]


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_few_bits_answer_the_same_whoever_else_asks(family, weights, tmp_path):
    """Also where some matrices do not divide into the kernels' blocks."""
    for sizes in (DIVISIBLE[family], {}):
        write_tiny(tmp_path / f"{family}{len(sizes)}", family, **sizes)
        model = load(tmp_path / f"{family}{len(sizes)}")
        with open_engine(model, Serving(runner="packed", rows=3, batch_tokens=11, cache_tokens=128, weights=weights)) as engine:
            assert weights in engine.runner.kernel
            crowd = told(engine, [job(model, text) for text in TEXTS])
            assert crowd == [told(engine, [job(model, text)])[0] for text in TEXTS]


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_encoder_decoders_answer_their_own_sources(family, models):
    model = models(family)
    with open_engine(model, Serving(rows=3, batch_tokens=11)) as engine:
        assert isinstance(engine.runner, SoloRunner)
        assert told(engine, [job(model, text) for text in TEXTS]) == [written(model, text) for text in TEXTS]


def test_each_family_has_the_runner_that_suits_it(models):
    chosen = {family: choose_runner(models(family), Serving(runner="auto", rows=2), {}) for family in (*CAUSAL, *SEQ2SEQ)}
    kinds = {
        kind: {family for family, runner in chosen.items() if type(runner) is kind} for kind in (RecurrentRunner, SoloRunner)
    }
    assert kinds[RecurrentRunner] == {"lstm", "mamba", "mamba2", "ngram", "rwkv", "rwkv7"}
    assert kinds[SoloRunner] == {"bamba", *SEQ2SEQ}
    gemma = choose_runner(models("gemma2"), Serving(runner="packed", rows=2), {})
    assert isinstance(gemma, packed.PackedRunner)


@pytest.mark.parametrize("family", ["gpt2", "mamba", "deepseek_v3", "t5"])
def test_chance_and_choices_are_the_same_whoever_else_asks(family, models):
    model = models(family)
    wild = Sampling(temperature=1.5, max_tokens=7, seed=5, ignore_eos=True)
    with open_engine(model, Serving(rows=3, batch_tokens=5, cache_tokens=160)) as engine:
        alone = told(engine, [job(model, TEXTS[1], wild)])
        crowd = told(engine, [job(model, text, wild) for text in TEXTS])
    assert alone == [written(model, TEXTS[1], wild)] == [crowd[1]]
