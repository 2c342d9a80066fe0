"""Vectors, rankings and verdicts over HTTP, compared with the models themselves."""

import base64

import numpy as np
import openai
import pytest
from tests.server.live import write_embedder
from tests.server.running import made_service, serving
from tests.tiny import tiny_tokenizer

from danlu.core.errors import BadSettings
from danlu.server.models import Served
from danlu.server.moderations import open_guard

TEXTS = ["one two", "丹炉", "x"]
RULES = "violence:\n  words: [bomb, 炸弹]\nsecrets:\n  patterns: ['\\b\\d{3}-\\d{4}\\b']\n"


@pytest.fixture(scope="module")
def reading(tmp_path_factory, folders):
    """A server with an embedder, a model that writes, and a guard of rules."""
    root = tmp_path_factory.mktemp("reading")
    write_embedder(root / "vectors")
    (root / "rules.yaml").write_text(RULES)
    service = made_service(Served("vectors", root / "vectors"), Served("speaker", folders / "speaker"))
    service.guard = open_guard(root / "rules.yaml", service.models.lock)
    with serving(service) as running:
        yield running


def test_vectors_are_those_of_the_model_in_both_encodings(reading):
    expected = reading.service.models.all[0].model.embed(TEXTS)
    client = reading.client()
    plain = client.embeddings.create(model="vectors", input=TEXTS, encoding_format="float")
    packed = client.embeddings.create(model="vectors", input=TEXTS)  # the client asks for base64 by itself
    raw = reading.post("/v1/embeddings", {"model": "vectors", "input": TEXTS, "encoding_format": "base64"}).json()
    for found in (plain.data, packed.data):
        np.testing.assert_allclose([one.embedding for one in found], expected, rtol=1e-6)
        assert [one.index for one in found] == [0, 1, 2] and found[0].object == "embedding"
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(raw["data"][1]["embedding"]), "<f4"), expected[1])
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0 and plain.object == "list"


def test_fewer_dimensions_are_the_first_ones_brought_to_length_one(reading):
    client = reading.client()
    whole = np.array(client.embeddings.create(model="vectors", input="one").data[0].embedding)
    short = np.array(client.embeddings.create(model="vectors", input="one", dimensions=5).data[0].embedding)
    np.testing.assert_allclose(short, whole[:5] / np.linalg.norm(whole[:5]), rtol=1e-5)
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="vectors", input="one", dimensions=4096)
    assert refused.value.param == "dimensions"


def test_token_ids_are_read_as_their_text(reading):
    client, tokenizer = reading.client(), tiny_tokenizer()
    ids = client.embeddings.create(model="vectors", input=[tokenizer.encode(text) for text in TEXTS]).data
    texts = client.embeddings.create(model="vectors", input=TEXTS).data
    assert [one.embedding for one in ids] == [one.embedding for one in texts]


@pytest.mark.parametrize("given", ["", [], ["a", ""], [[]], [[999]], "x" * 100, 5, None])
def test_no_text_or_too_much_is_refused(reading, given):
    answer = reading.post("/v1/embeddings", {"model": "vectors", "input": given})
    assert answer.status_code == 400 and answer.json()["error"]["param"].startswith("input")


def test_documents_are_ranked_by_cosine(reading):
    documents = ["one three", {"text": "炉"}, "one two"]
    answer = reading.post("/v1/rerank", {"model": "vectors", "query": "one two", "documents": documents, "top_n": 2}).json()
    vectors = reading.service.models.all[0].model.embed(["one two", "one three", "炉", "one two"])
    scores = vectors[1:] @ vectors[0]
    assert [one["index"] for one in answer["results"]] == np.argsort(-scores)[:2].tolist()
    assert answer["results"][0]["relevance_score"] == pytest.approx(1.0, abs=1e-5)
    assert answer["results"][0]["document"] == {"text": "one two"}
    bare = reading.post("/v1/rerank", {"model": "vectors", "query": "q", "documents": ["a"], "return_documents": False}).json()
    assert set(bare["results"][0]) == {"index", "relevance_score"}


def test_a_model_does_only_what_it_is_made_for(reading):
    client = reading.client()
    with pytest.raises(openai.BadRequestError, match="/v1/embeddings"):
        client.completions.create(model="vectors", prompt="x")
    with pytest.raises(openai.BadRequestError, match="vectors"):
        client.embeddings.create(model="speaker", input="x")


def test_rules_judge_texts_in_openais_shape(reading):
    answer = reading.client().moderations.create(input=["A bombastic day", "The BOMB.", "藏着炸弹", "call 555-1234"])
    flagged = [one.flagged for one in answer.results]
    assert flagged == [False, True, True, True] and answer.model == "rules"
    raw = reading.post("/v1/moderations", {"input": [{"type": "text", "text": "call 555-1234"}]}).json()["results"][0]
    assert raw["categories"] == {"violence": False, "secrets": True} and raw["category_scores"]["secrets"] == 1.0
    assert reading.post("/v1/moderations", {"input": "x", "model": "other"}).status_code == 404


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_carries_the_verdict_where_it_was_asked_for(reading, stream):
    body = {"model": "speaker", "messages": [{"role": "user", "content": "a bomb"}], "max_tokens": 3}
    answer = reading.client().chat.completions.create(**body, stream=stream, extra_body={"moderation": {}})
    said = list(answer)[-1].moderation if stream else answer.moderation
    said = said if isinstance(said, dict) else said.model_dump()
    assert said["input"]["type"] == "moderation_results" and said["input"]["results"][0]["flagged"]
    assert not said["output"]["results"][0]["flagged"]


def test_without_a_guard_the_route_says_what_to_do(live):
    answer = live.post("/v1/moderations", {"input": "x"})
    assert answer.status_code == 404 and "--guard" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "text", ["", "- a\n", "x: 5\n", "x: {words: a}\n", "x: {patterns: ['(']}\n", "x: {colour: [a]}\n", "a: [b\n"]
)
def test_rules_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(BadSettings, match="--guard"):
        open_guard(tmp_path / "rules.yaml", None)


@pytest.fixture(scope="module")
def judging(tmp_path_factory):
    """A server of a classifier and a regression."""
    from danlu.engine.heads import save_headed
    from danlu.models import MODELS
    from danlu.models.heads import HeadConfig, attach

    root, tokenizer = tmp_path_factory.mktemp("judging"), tiny_tokenizer()
    heads = {"classes": HeadConfig(task="classify", labels=["safe", "rude", "spam"]), "number": HeadConfig(task="regress")}
    for name, head in heads.items():
        body = MODELS["qwen3"].tiny(vocab_size=tokenizer.vocab_size, max_position_embeddings=66, initializer_range=0.3)
        save_headed(attach(body, head, seed=3).eval(), tokenizer, root / name)
    with serving(made_service(*(Served(name, root / name) for name in heads))) as running:
        running.root = root
        yield running


def test_classes_and_numbers_are_those_of_the_model(judging):
    told = judging.post("/v1/classify", {"model": "classes", "input": TEXTS}).json()
    expected = judging.service.models.all[0].model.classify(TEXTS)
    assert [one["label"] for one in told["data"]] == [one.label for one in expected] and told["usage"]["prompt_tokens"] > 0
    for one, other in zip(told["data"], expected):
        assert dict(zip(one["labels"], one["probs"])) == pytest.approx(other.probabilities, rel=1e-5)
    number = judging.post("/v1/classify", {"model": "number", "input": "x"}).json()["data"][0]
    assert number["score"] == pytest.approx(judging.service.models.all[1].model.classify("x")[0], rel=1e-5)
    for wrong in ({"input": ""}, {"input": []}, {"input": "x" * 99}, {"model": "number", "input": 5}):
        assert judging.post("/v1/classify", {"model": "classes", **wrong}).status_code == 400
    chat = judging.post("/v1/completions", {"model": "classes", "prompt": "x"})
    assert chat.status_code == 400 and "/v1/classify" in chat.json()["error"]["message"]


def test_a_classifier_is_a_guard_whose_safe_labels_flag_nothing(judging):
    guard = open_guard(judging.root / "classes", judging.service.models.lock)
    judged = guard.judge(["one", ""])
    assert set(judged[0]["categories"]) == {"rude", "spam"} and len(judged) == 2
    assert judged[0]["flagged"] == any(score >= 0.5 for score in judged[0]["category_scores"].values())
    with pytest.raises(BadSettings, match="no classifier"):
        open_guard(judging.root / "number", None)
