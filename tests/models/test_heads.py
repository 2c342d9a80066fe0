"""Heads against transformers' own classes: same scores from the same folder, both ways; packed texts score as each alone."""

import pytest
import torch
from transformers import AutoModel

from danlu.core.errors import UnsupportedModel
from danlu.models import MODELS
from danlu.models.base import CausalLM, MaskedLM
from danlu.models.heads import HeadConfig, Headed, attach, is_headed, load_body, load_headed, mean_by_document, texts_in_rows
from danlu.models.weights import load_model, read_config, save_model
from tests.models.reference import CASES, ours, theirs, tokens

TASKS = {
    "classify": {"labels": ["bad", "fair", "good"]}, "regress": {}, "tag": {"labels": ["O", "B-X", "I-X", "B-Y", "I-Y"]},
    "extract": {}, "embed": {"pooling": "mean"}, "reward": {},
}  # fmt: skip
THEIRS = ("qwen3", "llama", "gpt2", "qwen2", "mistral", "bert", "roberta", "modernbert")
FIRST = dict(reversed([(family, changes) for family, changes in CASES if family in THEIRS]))
"""The first case of each family that has such classes in transformers."""


def headed(family, task, seed=3, **head) -> Headed:
    model = attach(ours(family, FIRST[family]), HeadConfig(task=task, **{**TASKS[task], **head}), seed=5)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.head.parameters() if model.head else ():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def ids_for(family, rows=1, length=11):
    return tokens(rows, length, vocab=29) + 2  # 0 and 1 may be padding there, which moves places


def scores(model, task, ids_BT):
    marked = torch.zeros_like(ids_BT, dtype=torch.bool)
    marked[:, 0 if model.pooling == "first" else -1] = True
    if task in ("classify", "regress", "reward"):
        return model.scores(model.pooled(ids_BT, None, marked))
    return model.scores(model.hidden(ids_BT))


def their_scores(model, task, ids_BT):
    found = model(ids_BT)
    return torch.stack([found.start_logits, found.end_logits], -1) if task == "extract" else found.logits


@pytest.mark.parametrize("task", ["classify", "regress", "tag", "extract", "reward"])
@pytest.mark.parametrize("family", FIRST)
def test_transformers_opens_the_folder_and_gives_the_same_scores(family, task, tmp_path):
    model, ids = headed(family, task), ids_for(family)
    save_model(model, tmp_path)
    other = theirs(family, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(scores(model, task, ids), their_scores(other, task, ids), rtol=1e-4, atol=1e-5)
    if TASKS[task].get("labels"):
        assert [other.config.id2label[at] for at in range(other.config.num_labels)] == TASKS[task]["labels"]
    other.save_pretrained(tmp_path / "theirs", safe_serialization=True)
    back = load_headed(tmp_path / "theirs")
    assert back.config.head.task == task
    torch.testing.assert_close(scores(back, task, ids), scores(model, task, ids), rtol=1e-5, atol=1e-6)


def test_modernbert_may_take_the_mean(tmp_path):
    model, ids = headed("modernbert", "classify", pooling="mean"), ids_for("modernbert")
    save_model(model, tmp_path)
    other = theirs("modernbert", tmp_path)
    assert other.config.classifier_pooling == "mean"
    with torch.no_grad():
        torch.testing.assert_close(scores(model, "classify", ids), other(ids).logits, rtol=1e-4, atol=1e-5)
    other.save_pretrained(tmp_path / "theirs")
    assert load_headed(tmp_path / "theirs").pooling == "mean"


@pytest.mark.parametrize("family", FIRST)
def test_an_embedding_opens_as_the_bare_body(family, tmp_path):
    model, ids = headed(family, "embed"), ids_for(family)
    save_model(model, tmp_path)
    other, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True, attn_implementation="eager", dtype=torch.float32)
    assert not [key for key in info["missing_keys"] if "pooler" not in key] and not info["unexpected_keys"]
    with torch.no_grad():
        mean = other.eval()(ids).last_hidden_state.mean(1)
        marked = torch.zeros_like(ids, dtype=torch.bool)
        marked[:, 4] = True
        torch.testing.assert_close(model.embedded(ids, None, marked), torch.nn.functional.normalize(mean), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM | MaskedLM)])
def test_every_family_takes_every_head_and_gives_it_back(family, task, tmp_path):
    if MODELS[family].counted:
        with pytest.raises(UnsupportedModel, match="takes no head"):
            attach(MODELS[family].tiny(), HeadConfig(task=task, **TASKS[task]))
        return
    model = attach(MODELS[family].tiny(), HeadConfig(task=task, **TASKS[task])).eval()
    save_model(model, tmp_path)
    assert is_headed(read_config(tmp_path))
    back = load_headed(tmp_path)
    assert back.config.head == model.config.head
    for (name, one), (other, two) in zip(model.state_dict().items(), back.state_dict().items(), strict=True):
        assert name == other
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("pooling", ["first", "last", "mean"])
@pytest.mark.parametrize("family", [name for name in FIRST if name in ("qwen3", "bert")])
def test_a_packed_text_is_pooled_as_it_is_alone(family, pooling):
    model = attach(ours(family, FIRST[family]), HeadConfig(task="embed", pooling=pooling)).eval()
    ids, lengths = ids_for(family, 1, 17), [3, 5, 2, 7]
    documents = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None]
    marked = torch.zeros_like(ids, dtype=torch.bool)
    ends = torch.tensor(lengths).cumsum(0)
    marked[0, ends - 1 if pooling == "last" else ends - torch.tensor(lengths)] = True
    together = model.embedded(ids, documents, marked)
    for at, length in enumerate(lengths):
        alone = ids[:, ends[at] - length : ends[at]]
        mark = torch.zeros_like(alone, dtype=torch.bool)
        mark[0, -1 if pooling == "last" else 0] = True
        torch.testing.assert_close(model.embedded(alone, None, mark)[0], together[at], rtol=1e-4, atol=1e-5)


def test_the_mean_by_hand():
    hidden = torch.tensor([[[1.0, 0.0], [3.0, 2.0], [5.0, 5.0], [9.0, 9.0]]])
    documents = torch.tensor([[0, 0, 1, 2]])
    marked = torch.tensor([[False, True, True, False]])
    assert mean_by_document(hidden, documents, marked).tolist() == [[2.0, 1.0], [5.0, 5.0]]


def test_a_body_is_taken_from_either_kind_of_folder(tmp_path):
    whole = MODELS["qwen3"].tiny(tie_word_embeddings=False).eval()
    save_model(whole, tmp_path / "words")
    save_model(attach(MODELS["qwen3"].tiny(tie_word_embeddings=False).eval(), HeadConfig(task="regress")), tmp_path / "head")
    one, two = load_body(tmp_path / "words"), load_body(tmp_path / "head")
    ids = ids_for("qwen3")
    torch.testing.assert_close(one.hidden(ids), two.hidden(ids))
    assert load_model(tmp_path / "words").lm_head is not None


def test_texts_share_rows_without_loss():
    lengths = [3, 9, 4, 2, 5, 30, 1]
    rows = texts_in_rows(lengths, most=9)
    assert sorted(text for row in rows for text in row) == list(range(7))
    assert all(sum(lengths[text] for text in row) <= 9 or row == [5] for row in rows)
