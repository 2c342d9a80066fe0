"""Logits, loss and gradients of each masked family equal transformers', in both directions of the folder."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from danlu.core.errors import UnsupportedModel
from danlu.models import MODELS
from danlu.models.base import MaskedLM
from danlu.models.weights import load_model, save_model
from tests.models.reference import assert_close, cases, ours, theirs, tokens

CASES = cases(MaskedLM)


def targets_of(ids):
    """A few of the tokens."""
    return ids.masked_fill(torch.arange(ids.numel()).view_as(ids) % 4 != 1, -100)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'-'.join(case[1])}")
def pair(request, tmp_path):
    """A model and what transformers makes of its folder."""
    mine = ours(*request.param)
    save_model(mine, tmp_path)
    return mine, theirs(request.param[0], tmp_path)


def test_logits_loss_and_gradients_equal_transformers_on_the_folder_we_wrote(pair):
    mine, reference = pair
    ids = tokens()
    ids[ids == mine.config.pad_token_id] = 7  # transformers learns nothing from padding that is read
    targets = targets_of(ids)
    found = reference(ids, labels=targets)
    assert_close(mine(ids), found.logits)
    loss = mine.cross_entropy_sum(mine.hidden(ids).flatten(0, 1), targets.flatten()) / (targets != -100).sum()
    torch.testing.assert_close(loss, found.loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    found.loss.backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in mine.named_parameters():
        if name.endswith("key.bias"):  # it moves no softmax
            torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-3, atol=1e-5)
        else:
            assert_close(parameter.grad, wanted[name].grad)
    assert {name for name, _ in mine.named_parameters()} == set(wanted)


def test_a_folder_that_transformers_wrote_loads_here_with_the_same_logits(pair, tmp_path_factory):
    mine, reference = pair
    folder = tmp_path_factory.mktemp("theirs")
    reference.save_pretrained(folder)
    again = load_model(folder)
    assert type(again) is type(mine)
    assert_close(again(tokens()), reference(tokens()).logits)


def test_packed_documents_equal_transformers_on_each_alone(pair):
    mine, reference = pair
    ids, lengths = tokens(1, 17), (5, 2, 10)
    documents = torch.repeat_interleave(torch.tensor([3, 4, 9]), torch.tensor(lengths))[None]
    alone = torch.cat([reference(part).logits for part in ids.split(lengths, dim=1)], dim=1)
    assert_close(mine(ids, documents_BT=documents), alone)


def test_filling_as_a_document_of_its_own_equals_an_attention_mask(pair):
    mine, reference = pair
    ids, lengths = tokens(3, 13), torch.tensor([13, 6, 1])
    text = torch.arange(13) < lengths[:, None]
    pad = mine.config.pad_token_id or 0
    ids = ids.where(text, pad)
    wanted = reference(ids, attention_mask=text.long()).logits
    found = mine(ids, documents_BT=(~text).int())
    assert_close(found[text], wanted[text])


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_segments(family, tmp_path):
    mine = ours(family, {"type_vocab_size": 3})
    save_model(mine, tmp_path)
    ids = tokens()
    types = (torch.arange(13) // 5).expand(2, -1)
    logits = mine.logits(mine.hidden(ids, types_BT=types))
    assert_close(logits, theirs(family, tmp_path)(ids, token_type_ids=types).logits)
    assert (logits - mine(ids)).abs().max() > 0.01


def test_padding_inside_a_text_takes_no_place_in_roberta(tmp_path):
    mine = ours("roberta", {"pad_token_id": 2})
    save_model(mine, tmp_path)
    ids = torch.tensor([[2, 7, 8, 2, 9, 2, 2, 10]])
    assert_close(mine(ids), theirs("roberta", tmp_path)(ids).logits)
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    alone = torch.cat([mine(part) for part in ids.split([3, 5], dim=1)], dim=1)
    torch.testing.assert_close(mine(ids, documents_BT=documents), alone, rtol=1e-4, atol=1e-5)


def test_googles_first_files_load(tmp_path):
    """Old names of norms, a pooler, the head for sentence pairs, stored positions, a decoder stored beside the embedding."""
    import transformers

    mine = ours("bert", {})
    save_model(mine, tmp_path)
    config = transformers.BertConfig.from_pretrained(tmp_path)
    full = transformers.BertForPreTraining(config)
    found, _ = full.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False), full.tie_weights()
    assert not found.unexpected_keys
    tensors = {name: tensor.clone() for name, tensor in full.state_dict().items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(66.0)[None]
    for name in list(tensors):
        if "LayerNorm" in name:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            tensors[old] = tensors.pop(name)
    assert {"bert.pooler.dense.weight", "cls.seq_relationship.bias", "cls.predictions.decoder.weight"} <= set(tensors)
    assert "bert.embeddings.LayerNorm.gamma" in tensors
    save_file(tensors, tmp_path / "model.safetensors")
    path = tmp_path / "config.json"
    chinese = {
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_type": "first_token_transform",
        "gradient_checkpointing": False,
    }
    path.write_text(
        json.dumps({**json.loads(path.read_text()), **chinese, "hidden_dropout_prob": 0.1, "position_embedding_type": "absolute"})
    )
    assert_close(load_model(tmp_path)(tokens()), full.eval()(tokens()).prediction_logits)


def test_modernberts_first_config_means_the_same(tmp_path):
    """Two bases and every how many layers, as transformers wrote them before version 5; missing ones have its defaults."""
    mine = ours("modernbert", {"global_attn_every_n_layers": 3, "num_hidden_layers": 5, "global_rope_theta": 160_000.0})
    save_model(mine, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for key in ("rope_parameters", "layer_types", "global_rope_theta"):
        del config[key]
    more = {
        "position_embedding_type": "absolute",
        "repad_logits_with_grad": False,
        "reference_compile": None,
        "layer_norm_eps": 1e-5,
    }
    path.write_text(json.dumps({**config, **more}))
    assert torch.equal(load_model(tmp_path)(tokens()), mine(tokens()))
    assert_close(mine(tokens()), theirs("modernbert", tmp_path)(tokens()).logits)


@pytest.mark.parametrize(
    ("family", "fields", "named"),
    [
        ("bert", {"is_decoder": True}, "is_decoder"),
        ("bert", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("bert", {"tie_word_embeddings": False}, "shares the embedding"),
        ("bert", {"num_attention_heads": 5}, "does not divide"),
        ("roberta", {"pad_token_id": 400}, "leave none"),
        ("modernbert", {"hidden_activation": "relu"}, "relu"),
        ("modernbert", {"layer_types": ["full_attention"]}, "names 1 layers of 3"),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2.0}}}, "yarn"),
        ("modernbert", {"rope_parameters": {"chunked_attention": {}}}, "chunked_attention"),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name(family, fields, named, tmp_path):
    save_model(MODELS[family].tiny(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(UnsupportedModel, match=named):
        load_model(tmp_path)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_row_longer_than_the_positions_is_refused(family):
    with pytest.raises(ValueError, match=r"67 tokens in a row.*positions"):
        MODELS[family].tiny()(torch.full((1, 67), 3))
