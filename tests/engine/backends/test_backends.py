"""Every backend says the same of the same folder: greedy answers word for word, scores within rounding of transformers."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tests.engine.backends.stand_in import StandIn, serving
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.core.errors import BackendFailed, BadInput, BadSettings, MissingExtra, PromptTooLong
from danlu.core.settings import load as settle
from danlu.engine.backends import BACKENDS
from danlu.engine.backends.ids import pair_ids, prompt_ids
from danlu.engine.backends.openai import OpenAI
from danlu.engine.heads import save_headed
from danlu.engine.request import Sampling
from danlu.models import MODELS
from danlu.models.heads import HeadConfig, attach
from danlu.tokenizer.chat import CHATML
from danlu.tokenizer.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0, max_tokens=12)
PROMPTS = ("The quick 丹", "x", [{"role": "user", "content": "你好"}], "0123 " * 5)
PAIRS = [("The quick", " brown fox"), ("丹", "炉"), ("a", "b"), ("x y", "z " * 10)]


def build(name, **settings):
    return BACKENDS.build(settle(BACKENDS[name].Config, settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "qwen3"
    write_tiny(place, "qwen3")
    (place / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def local(folder):
    backend = build("local", path=folder, serving={"rows": 2, "waiting": 1, "cache_tokens": 256, "weights": "fp32"})
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def server(local):
    stand_in = StandIn(local)
    with serving(stand_in) as url:
        stand_in.url = url
        yield stand_in


@pytest.fixture
def stand_in(server):
    server.faults, server.asked, server.key = [], [], None
    return server


@pytest.fixture(params=["transformers", "openai", "openai by ids"])
def other(request, folder, stand_in):
    name, _, by_ids = request.param.partition(" ")
    more = {"path": folder} if name == "transformers" else {"url": stand_in.url, "tokenizer": folder if by_ids else None}
    backend = build(name, **more)
    yield backend
    backend.close()


def test_the_shelf_holds_four():
    assert BACKENDS.names() == ["local", "openai", "transformers", "vllm"]


def test_answers_are_the_same_word_for_word(local, other):
    wanted = local.write(PROMPTS, GREEDY)
    assert other.write(PROMPTS, GREEDY) == wanted
    assert [answer.text for answer in wanted] == [local.model.generate(PROMPTS[0], temperature=0, max_tokens=12), *(
        answer.text for answer in wanted[1:])]  # fmt: skip
    stop = wanted[0].text[3:5]
    stopped = Sampling(temperature=0, max_tokens=12, stop=[stop])
    assert other.write(PROMPTS, stopped) == local.write(PROMPTS, stopped)
    assert local.write(PROMPTS[:1], stopped)[0].text == wanted[0].text[: wanted[0].text.index(stop)]


def test_scores_are_those_of_transformers(local, other):
    wanted = local.score(PAIRS)
    assert [len(nats) for nats in wanted] == [10, 3, 1, 20]
    for found, own in zip(other.score(PAIRS), wanted, strict=True):
        np.testing.assert_allclose(found, own, rtol=0, atol=1e-4)
    assert all(value < 0 for nats in wanted for value in nats)


def test_a_score_is_what_the_model_gives_each_token_by_itself(local):
    ids, begin = pair_ids(local.model.tokenizer, "The", " fox")
    logits = local.model.logits([ids])[0].double().log_softmax(-1)
    wanted = [float(logits[at - 1, ids[at]]) for at in range(begin, len(ids))]
    np.testing.assert_allclose(local.score([("The", " fox")])[0], wanted, rtol=0, atol=1e-4)


def test_more_prompts_than_the_engine_lets_wait(local):
    prompts = [f"text {number}" for number in range(12)]
    assert local.write(prompts, GREEDY) == [local.write([prompt], GREEDY)[0] for prompt in prompts]


def test_empty_halves_long_texts_and_unknown_words_are_refused(local, other):
    for backend in (local, other):
        with pytest.raises((BadInput, BackendFailed), match="empty"):
            backend.score([("", "a")])
        with pytest.raises((PromptTooLong, BackendFailed), match=r"64 at most|refuses|context"):
            backend.score([("a" * 40, "b" * 40)])
        with pytest.raises((PromptTooLong, BackendFailed), match="context of 64"):
            backend.write(["a" * 60], GREEDY)


def test_transformers_refuses_settings_that_it_would_ignore(folder):
    backend = build("transformers", path=folder)
    with pytest.raises(BadSettings, match="frequency_penalty, logit_bias"):
        backend.write(["a"], Sampling(frequency_penalty=1, logit_bias={5: 3.0}))
    again = Sampling(temperature=1.0, seed=4, max_tokens=9)
    assert backend.write(["a"], again) == backend.write(["a"], again)
    with pytest.raises(BadInput, match="1_Pooling"):
        backend.embed(["a"])


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoder_decoders_answer_and_score_what_they_read(family, tmp_path):
    odd = {"initializer_range": 1.0, "num_decoder_layers": 2} if family == "t5" else {}
    write_tiny(tmp_path / family, family, decoder_start_token_id=tiny_tokenizer().start_id, **odd)
    ours, other = (build(name, path=tmp_path / family) for name in ("local", "transformers"))
    prompts = [prompt for prompt in PROMPTS if isinstance(prompt, str)]
    assert ours.write(prompts, GREEDY) == other.write(prompts, GREEDY)
    for found, wanted in zip(ours.score(PAIRS), other.score(PAIRS), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    for backend in (ours, other):
        with pytest.raises(BadInput, match="encoder-decoder"):
            backend.write([PROMPTS[2]], GREEDY)
    ours.close()


@pytest.mark.parametrize(("family", "pooling"), [("qwen3", "last"), ("qwen3", "mean"), ("bert", "first")])
def test_vectors_equal_those_of_transformers(family, pooling, tmp_path):
    tokenizer = tiny_tokenizer(*(["<|mask|>"] if family == "bert" else []))
    body = MODELS[family].tiny(vocab_size=tokenizer.vocab_size, initializer_range=0.3)
    (tmp_path / "model").mkdir()
    save_headed(attach(body, HeadConfig(task="embed", pooling=pooling), seed=4).eval(), tokenizer, tmp_path / "model")
    texts = ["The quick 丹", "x", "another one"]
    ours, other = (build(name, path=tmp_path / "model") for name in ("local", "transformers"))
    found = ours.embed(texts)
    np.testing.assert_allclose(found, other.embed(texts), rtol=0, atol=1e-5)
    assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1)
    for backend in (ours, other):
        with pytest.raises(BadInput, match="writes no texts"):
            backend.write(["a"], GREEDY)


def test_a_model_that_writes_makes_no_vectors(local):
    with pytest.raises(BadInput, match="makes no vectors"):
        local.embed(["a"])


# ---- a URL


def test_overload_and_broken_lines_are_asked_again(stand_in):
    backend = build("openai", url=stand_in.url, retries=3)
    stand_in.faults = [429, "cut", 503]
    assert backend.write(["x"], GREEDY) == stand_in.local.write(["x"], GREEDY)
    assert len(stand_in.asked) == 4
    stand_in.faults = [500] * 4
    with pytest.raises(BackendFailed, match=r"answered 500 after 4 tries: fault 500 .*--at_once"):
        backend.write(["x"], GREEDY)


@pytest.mark.parametrize(
    ("fault", "why"), [(400, "fault 400 It refuses"), (404, "--url right"), ("garbage", "no JSON object"), (307, "answered 307")]
)
def test_a_refusal_is_told_and_not_repeated(stand_in, fault, why):
    backend = build("openai", url=stand_in.url)
    stand_in.faults = [fault]
    with pytest.raises(BackendFailed, match=why):
        backend.write(["x"], GREEDY)
    assert len(stand_in.asked) == 1


def test_a_key_is_read_from_the_environment(stand_in, monkeypatch):
    stand_in.key = "secret"
    backend = build("openai", url=stand_in.url, key="DANLU_TEST_KEY")
    monkeypatch.delenv("DANLU_TEST_KEY", raising=False)
    with pytest.raises(BackendFailed, match="DANLU_TEST_KEY"):
        backend.write(["x"], GREEDY)
    monkeypatch.setenv("DANLU_TEST_KEY", "secret")
    assert backend.write(["x"], GREEDY)


def test_only_settings_that_change_something_are_sent(stand_in):
    backend = build("openai", url=stand_in.url, model="mine")
    backend.write(["x"], Sampling(temperature=0.5, max_tokens=2))
    with pytest.raises(BackendFailed, match="context of 64"):  # 256 tokens are asked for where nobody said how many
        backend.write(["x"], Sampling(top_k=3, logit_bias={7: 1.0}, stop=["END"]))
    first, second = (body for _, body, _ in stand_in.asked)
    assert first == {"model": "mine", "prompt": "x", "max_tokens": 2, "temperature": 0.5, "top_p": 1.0, "seed": 0}
    more = {"max_tokens": 256, "temperature": 0.8, "top_k": 3, "logit_bias": {"7": 1.0}, "stop": ["END"]}
    assert second == {**first, **more}


def test_vectors_come_in_the_order_of_the_texts_and_of_length_one(stand_in):
    found = build("openai", url=stand_in.url).embed(["abc", "abcdefgh"] * 40)
    assert found.shape == (80, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[:2], [[3 / 13**0.5, 2 / 13**0.5, 0], [8 / 68**0.5, 2 / 68**0.5, 0]], rtol=1e-6)


def test_nobody_there_is_told(tmp_path):
    backend = build("openai", url="http://127.0.0.1:9/v1", retries=1)
    with pytest.raises(BackendFailed, match=r"cannot be reached after 2 tries.*--url"):
        backend.write(["x"], GREEDY)
    with pytest.raises(Exception, match="begins with http"):
        OpenAI.Config(url="ftp://example.org")


def test_a_server_without_offsets_needs_its_tokenizer(stand_in, folder, monkeypatch):
    whole = stand_in.echoed

    def bare(prompt):
        found = whole(prompt)
        found["choices"][0]["logprobs"]["text_offset"] = None
        return found

    monkeypatch.setattr(stand_in, "echoed", bare)
    with pytest.raises(BackendFailed, match="--tokenizer"):
        build("openai", url=stand_in.url).score(PAIRS)
    by_ids = build("openai", url=stand_in.url, tokenizer=folder).score(PAIRS)
    np.testing.assert_allclose(np.concatenate(by_ids), np.concatenate(stand_in.local.score(PAIRS)), rtol=0, atol=1e-6)
    monkeypatch.setattr(stand_in, "echoed", lambda prompt: {"choices": [{"text": "", "logprobs": None}]})
    with pytest.raises(BackendFailed, match="cannot score"):
        build("openai", url=stand_in.url).score(PAIRS)


# ---- ids


def test_the_first_token_that_reaches_into_the_second_text_counts(folder):
    from danlu.tokenizer.trainers import TRAINERS

    trained = TRAINERS.build(TRAINERS["bpe"].Config()).train(iter(["abcabc abc"] * 50), ("<|endoftext|>",), 260)
    whole = trained.encode("abc")
    assert len(whole) == 1
    ids, begin = pair_ids(trained, "ab", "c")
    assert ids[begin:] == whole
    ids, begin = pair_ids(Tokenizer.open(folder), "丹", "炉")
    assert len(ids) - begin == 3


def test_a_conversation_needs_a_template(folder):
    tokenizer = Tokenizer.open(folder)
    with pytest.raises(BadInput, match="no chat template"):
        prompt_ids(tiny_tokenizer(), PROMPTS[2])
    said = prompt_ids(tokenizer, [{"role": "user", "content": "<|im_end|>"}])
    assert said.count(tokenizer.special_tokens["<|im_end|>"]) == 1


# ---- vLLM


def test_vllm_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtra, match=r"danlu\[vllm\]"):
        build("vllm", path=folder)


def test_what_is_asked_of_vllm_and_read_from_it(folder, monkeypatch):
    """Against a stand-in with the shapes that its documentation gives: no machine of ours runs the real one."""
    asked = []

    class LLM:
        def __init__(self, **settings):
            self.settings = settings
            self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=64))

        def generate(self, prompts, params, use_tqdm):
            asked.append((prompts, params))
            lengths = [len(one["prompt_token_ids"]) for one in prompts]
            scores = [
                [dict.fromkeys(range(300), SimpleNamespace(logprob=-float(at))) for at in range(length)] for length in lengths
            ]
            answer = SimpleNamespace(text="said", finish_reason="length", token_ids=[1, 2])
            return [SimpleNamespace(outputs=[answer], prompt_logprobs=nats) for nats in scores]

        def embed(self, texts, use_tqdm):
            return [SimpleNamespace(outputs=SimpleNamespace(embedding=[3.0, 4.0])) for _ in texts]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **settings: settings))
    backend = build("vllm", path=folder)
    assert backend._model.settings["trust_remote_code"] is False
    ids = prompt_ids(Tokenizer.open(folder), "ab")
    answer = backend.write(["ab"], Sampling(top_k=5, stop=["x"]))[0]
    assert (answer.text, answer.reason, answer.prompt_tokens, answer.tokens) == ("said", "length", len(ids), 2)
    prompts, [params] = asked[0]
    assert prompts == [{"prompt_token_ids": ids}]
    assert params["max_tokens"] == 64 - len(ids) and params["top_k"] == 5 and params["stop"] == ["x"]
    assert backend.score([("ab", "cd")]) == [[-float(len(ids)), -float(len(ids) + 1)]]
    np.testing.assert_allclose(backend.embed(["a"]), [[0.6, 0.8]], rtol=1e-6)
    with pytest.raises(BadSettings, match="typical_p"):
        backend.write(["a"], Sampling(typical_p=0.5))
    with pytest.raises(PromptTooLong, match="context of 64"):
        backend.write(["a" * 64], Sampling())


# ---- our own server


def test_our_server_over_http_says_the_same(folder, local):
    from tests.server.running import made_service, serving

    from danlu.engine.opening import Serving
    from danlu.server.models import Served

    service = made_service(Served("tiny", folder), serving=Serving(rows=4, waiting=64, cache_tokens=512, weights="fp32"))
    with serving(service) as running:
        for tokenizer in (None, folder):
            backend = build("openai", url=f"{running.url}/v1", tokenizer=tokenizer)
            assert backend.model == "tiny"
            assert backend.write(PROMPTS, GREEDY) == local.write(PROMPTS, GREEDY)
            for found, own in zip(backend.score(PAIRS), local.score(PAIRS), strict=True):
                np.testing.assert_allclose(found, own, rtol=0, atol=1e-4)
        with pytest.raises(BackendFailed, match=r"answered 400: .*context"):
            backend.write(["a" * 60], GREEDY)
        with pytest.raises(BackendFailed, match="It refuses a setting or a text"):
            backend.embed(["a"])


@pytest.mark.parametrize("name", ["local", "transformers"])
def test_what_ends_an_answer_can_be_ignored_and_held_off(name, tmp_path):
    """Here every token ends an answer."""
    write_tiny(tmp_path / "model", "llama")
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps({"eos_token_id": [*range(259)]}))
    backend = build(name, path=tmp_path / "model")
    short, long = (
        backend.write(["x"], Sampling(temperature=0, max_tokens=5, ignore_eos=ignored))[0] for ignored in (False, True)
    )
    assert (short.tokens, short.reason, short.text) == (1, "stop", "")
    assert (long.tokens, long.reason) == (5, "length") and long.text
    backend.close()
