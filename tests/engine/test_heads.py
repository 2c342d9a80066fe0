"""Models with heads in use: a text's answer does not depend on its neighbours, and what a head cannot do is refused in words."""

import json

import numpy as np
import pytest
import torch
from tests.tiny import tiny_tokenizer

import danlu
from danlu.core.errors import BadInput, PromptTooLong, UnsupportedModel
from danlu.engine.heads import HeadedModel, best_span, save_headed, split_words
from danlu.models import MODELS
from danlu.models.heads import HeadConfig, attach

TEXTS = ["the furnace glows", "丹炉", "a", "the master opens the door, and closes it again", "x y z " * 6]
LABELS = {"classify": ["bad", "good", "so so"], "tag": ["O", "B-X", "I-X"]}


def opened(task, family="qwen3", **head) -> HeadedModel:
    tokenizer = tiny_tokenizer()
    body = MODELS[family].tiny(vocab_size=tokenizer.vocab_size, max_position_embeddings=66, initializer_range=0.3)
    model = attach(body, HeadConfig(task=task, labels=LABELS.get(task, []), **head), seed=4).eval()
    with torch.no_grad():
        for parameter in model.head.parameters() if model.head else ():
            parameter *= 9
    return HeadedModel(model, tokenizer, None)


@pytest.mark.parametrize("family", ["qwen3", "bert", "modernbert"])
def test_neighbours_change_nothing(family):
    model = opened("classify", family)
    together = model.classify(TEXTS)
    for text, found in zip(TEXTS, together, strict=True):
        (alone,) = model.classify(text)
        assert alone.label == found.label
        assert alone.probabilities == pytest.approx(found.probabilities, abs=1e-5)
        assert sum(found.probabilities.values()) == pytest.approx(1.0)
    vectors = opened("embed", family, pooling="mean").embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(opened("embed", family, pooling="mean").embed(TEXTS[3]), vectors[3:4], atol=1e-5)


def test_a_shorter_vector_is_the_beginning_renormed():
    model = opened("embed", dims=[5])
    whole, short = model.embed(TEXTS), model.embed(TEXTS, dim=5)
    np.testing.assert_allclose(short, whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(BadInput, match="24 numbers; dim=99"):
        model.embed(TEXTS, dim=99)


def test_a_regression_answers_in_the_numbers_it_learned_from():
    plain, scaled = opened("regress").classify(TEXTS), opened("regress", mean=3.0, deviation=2.0).classify(TEXTS)
    assert scaled == pytest.approx([3.0 + 2.0 * value for value in plain], abs=1e-5)


def test_every_word_gets_a_tag_however_long_the_text():
    model, text = opened("tag"), "Ada's furnace, 丹炉！" * 9
    tagged = model.tag(text)
    assert [word for word, _ in tagged] == split_words(text) and len(tagged) == 54
    assert {tag for _, tag in tagged} <= set(LABELS["tag"])
    assert model.tag(["a", "b"])[1][0] == "b"
    with pytest.raises(PromptTooLong, match="alone has"):
        model.tag(["w" * 99])


def test_an_answer_is_a_stretch_of_the_context():
    model = opened("extract")
    context = "The old master watched the fire for nine days, and on the ninth he opened the door of the furnace."
    found = model.answer("who?", context)
    assert context[found.start : found.start + len(found.text)] == found.text
    with pytest.raises(PromptTooLong, match="no room"):
        model.answer("who? " * 40, context)


def test_the_best_span_by_hand():
    scores = np.log(np.array([[0.1, 0.1], [0.1, 0.2], [0.5, 0.1], [0.2, 0.1], [0.1, 0.5]]))
    assert best_span(scores, first=1, tokens=4)[:2] == (1, 3)
    assert best_span(scores, 1, 4)[2] == pytest.approx(np.log(0.5 * 0.5))
    nothing = np.log(np.array([[0.9, 0.9], [0.05, 0.05], [0.05, 0.05]]))
    assert best_span(nothing, 1, 2)[:2] == (-1, -1)


def test_too_long_texts_are_refused_or_cut_by_choice():
    model = opened("classify")
    with pytest.raises(PromptTooLong, match="text 1 has 91 tokens and the model sees 66"):
        model.classify(["short", "y" * 90])
    assert len(model.classify(["short", "y" * 90], overlong="truncate")) == 2


def test_a_folder_opens_as_what_it_is_and_says_what_it_is_not(tmp_path):
    model = opened("embed", pooling="mean")
    save_headed(model.model, model.tokenizer, tmp_path / "embed")
    found = danlu.load(tmp_path / "embed")
    np.testing.assert_allclose(found.embed(TEXTS), model.embed(TEXTS), atol=1e-6)
    with pytest.raises(UnsupportedModel, match=r"has a head for embed in place of words.*\.embed"):
        found.generate("once")
    with pytest.raises(UnsupportedModel, match=r"not \.classify"):
        found.classify("once")
    modules = json.loads((tmp_path / "embed" / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
    pooling = json.loads((tmp_path / "embed" / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] and not pooling["pooling_mode_cls_token"]
    assert pooling["word_embedding_dimension"] == 24


def test_words_are_cut_as_people_would():
    assert split_words("İstanbul 2.0 (丹炉)") == ["İstanbul", "2", ".", "0", "(", "丹", "炉", ")"]


def test_commands_for_words_refuse_a_folder_with_a_head(tmp_path):
    model = opened("classify")
    save_headed(model.model, model.tokenizer, tmp_path / "head")
    (tmp_path / "text.txt").write_text("the fire")
    for call in (
        lambda: danlu.generate(tmp_path / "head", "once"),
        lambda: danlu.chat(tmp_path / "head"),
        lambda: danlu.export(tmp_path / "head", out=tmp_path / "x"),
        lambda: danlu.evaluate(tmp_path / "head", text=[tmp_path / "text.txt"], out=tmp_path / "y"),
    ):
        with pytest.raises(UnsupportedModel, match="in place of words"):
            call()
