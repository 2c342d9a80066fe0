"""Encoder-decoders equal transformers': logits, loss, gradient of every parameter, decoding, filling, both ways of the folder."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from danlu.core.errors import UnsupportedModel
from danlu.models import MODELS
from danlu.models.base import Seq2SeqLM
from danlu.models.weights import load_model, save_model
from tests.models.reference import assert_close, cases, ours, theirs, tokens

CASES = cases(Seq2SeqLM)
SOURCE, WRITTEN, TARGETS = tokens(2, 11, seed=3), tokens(2, 7, seed=4), tokens(2, 7, seed=5)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{len(str(case[1]))}")
def pair(request, tmp_path):
    """Our model and transformers' of the folder we wrote."""
    mine = ours(*request.param)
    if "final_logits_bias" in dict(mine.named_buffers()):
        mine.final_logits_bias.copy_(torch.linspace(-1, 1, 31))
    save_model(mine, tmp_path)
    return mine, theirs(request.param[0], tmp_path)


def test_logits_loss_and_gradients(pair):
    mine, reference = pair
    targets = TARGETS.clone()
    targets[0, 3:5] = -100
    wanted = reference(input_ids=SOURCE, decoder_input_ids=WRITTEN, labels=targets)
    assert_close(mine(WRITTEN, source_BS=SOURCE), wanted.logits)
    loss = mine.cross_entropy_sum(mine.hidden(WRITTEN, source_BSD=mine.encode(SOURCE)).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(loss / (targets != -100).sum(), wanted.loss, rtol=1e-5, atol=0)
    (loss / (targets != -100).sum()).backward()
    wanted.loss.backward()
    theirs_by_name = {mine.name_here(name): parameter.grad for name, parameter in reference.named_parameters()}
    theirs_by_name.pop(None, None)  # the table of waves, which nobody trains
    assert set(theirs_by_name) == {name for name, _ in mine.named_parameters()}
    for name, parameter in mine.named_parameters():
        grad = theirs_by_name[name]
        if name.endswith("k_proj.bias"):  # a bias of keys moves no softmax: what is there is rounding
            assert max(parameter.grad.abs().max(), grad.abs().max()) < 1e-6
        else:
            assert_close(parameter.grad, grad)


def test_filling_behind_short_sources_and_answers(pair):
    """What transformers hides with attention_mask is here a document of its own."""
    mine, reference = pair
    read = torch.tensor([[0] * 11, [0] * 6 + [1] * 5])
    write = torch.tensor([[0] * 4 + [1] * 3, [0] * 7])
    wanted = reference(
        input_ids=SOURCE, attention_mask=(read == 0).long(), decoder_input_ids=WRITTEN, decoder_attention_mask=(write == 0).long()
    ).logits
    found = mine(WRITTEN, source_BS=SOURCE, documents_BT=write, source_documents_BS=read)
    assert_close(found[write == 0], wanted[write == 0])


def test_packed_pairs(pair):
    mine, reference = pair
    read, write = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2]]), torch.tensor([[0, 1, 1, 1, 1, 2, 2]])
    alone = [
        reference(input_ids=SOURCE[:1][read == number][None], decoder_input_ids=WRITTEN[:1][write == number][None]).logits
        for number in range(3)
    ]
    found = mine(WRITTEN[:1], source_BS=SOURCE[:1], documents_BT=write, source_documents_BS=read)
    assert_close(found, torch.cat(alone, 1))


def test_cached_decoding(pair):
    mine, reference = pair
    state, encoded, cache = mine.new_state(2, 2), mine.encode(SOURCE), None
    outputs = reference.get_encoder()(input_ids=SOURCE)
    for token in WRITTEN.split(1, dim=1):
        wanted = reference(encoder_outputs=outputs, decoder_input_ids=token, past_key_values=cache, use_cache=True)
        cache = wanted.past_key_values
        assert_close(mine.logits(mine.hidden(token, source_BSD=encoded, state=state)), wanted.logits)


def test_a_folder_that_transformers_wrote_loads_here(pair, tmp_path):
    mine, reference = pair
    reference.save_pretrained(tmp_path / "theirs")
    assert "transformers_version" in json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert_close(load_model(tmp_path / "theirs")(WRITTEN, source_BS=SOURCE), mine(WRITTEN, source_BS=SOURCE))


def test_longer_than_all_distances_that_t5_tells_apart(tmp_path):
    mine = ours("t5", {})
    save_model(mine, tmp_path)
    source, written = tokens(1, 150, seed=3), tokens(1, 90, seed=4)
    wanted = theirs("t5", tmp_path)(input_ids=source, decoder_input_ids=written).logits
    assert_close(mine(written, source_BS=source), wanted)


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_older_files_that_hold_one_matrix_under_several_names_load(family, tmp_path):
    mine = ours(family, {"tie_word_embeddings": True})
    save_model(mine, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    prefix = "" if family == "t5" else "model."
    for name in (f"{prefix}encoder.embed_tokens.weight", f"{prefix}decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[f"{prefix}shared.weight"].clone()
    if family == "t5":
        tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.zeros(8, 3)
    if family == "marian":
        tensors["model.encoder.embed_positions.weight"] = torch.zeros(64, 24)
    save_file(tensors, path, metadata={"format": "pt"})
    assert torch.equal(load_model(tmp_path)(WRITTEN, source_BS=SOURCE), mine(WRITTEN, source_BS=SOURCE))


PUBLISHED = {
    "t5": {"architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0,
           "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0,
           "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "num_decoder_layers": 8, "num_heads": 6,
           "num_layers": 8, "output_past": True, "pad_token_id": 0, "relative_attention_num_buckets": 32,
           "tie_word_embeddings": False, "use_cache": True, "vocab_size": 32128},
    "bart": {"activation_dropout": 0.1, "activation_function": "gelu", "add_bias_logits": False, "add_final_layer_norm": False,
             "attention_dropout": 0.1, "bos_token_id": 0, "classif_dropout": 0.1, "classifier_dropout": 0.0, "d_model": 768,
             "decoder_attention_heads": 12, "decoder_ffn_dim": 3072, "decoder_layerdrop": 0.0, "decoder_layers": 6,
             "decoder_start_token_id": 2, "dropout": 0.1, "early_stopping": True, "encoder_attention_heads": 12,
             "encoder_ffn_dim": 3072, "encoder_layerdrop": 0.0, "encoder_layers": 6, "eos_token_id": 2, "forced_eos_token_id": 2,
             "init_std": 0.02, "is_encoder_decoder": True, "max_position_embeddings": 1024, "model_type": "bart",
             "no_repeat_ngram_size": 3, "normalize_before": False, "normalize_embedding": True, "num_beams": 4,
             "num_hidden_layers": 6, "pad_token_id": 1, "scale_embedding": False, "vocab_size": 50265},
    "marian": {"activation_dropout": 0.0, "activation_function": "swish", "add_bias_logits": False, "add_final_layer_norm": False,
               "bad_words_ids": [[58100]], "bos_token_id": 0, "d_model": 512, "decoder_attention_heads": 8,
               "decoder_ffn_dim": 2048, "decoder_layers": 6, "decoder_start_token_id": 58100, "decoder_vocab_size": 58101,
               "dropout": 0.1, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048, "encoder_layers": 6, "eos_token_id": 0,
               "forced_eos_token_id": 0, "init_std": 0.02, "is_encoder_decoder": True, "max_length": 512,
               "max_position_embeddings": 512, "model_type": "marian", "normalize_before": False, "normalize_embedding": False,
               "num_beams": 4, "num_hidden_layers": 6, "pad_token_id": 58100, "scale_embedding": True,
               "share_encoder_decoder_embeddings": True, "static_position_embeddings": True, "vocab_size": 58101},
}  # fmt: skip
"""Every field of config.json files as they were published: T5 1.1 small, BART base, OPUS-MT."""


@pytest.mark.parametrize("family", PUBLISHED)
def test_published_configurations_are_read_and_what_is_not_computed_is_refused(family):
    found = PUBLISHED[family]
    config = MODELS[family].from_hf(found)
    assert config.depth == 2 * found.get("num_layers", 6) and config.decoder_start_token_id == found["decoder_start_token_id"]
    odd = {"t5": {"feed_forward_proj": "gated-silu"}, "bart": {"normalize_before": True}, "marian": {"decoder_vocab_size": 9}}
    with pytest.raises(UnsupportedModel, match=next(iter(odd[family]))):
        MODELS[family].from_hf({**found, **odd[family]})
