"""Opening model folders: what fits works, what does not says what to do."""

import json

import numpy as np
import pytest
import torch
from tests.tiny import write_tiny

from danlu.core.errors import BadSettings, DamagedWeights, NotAnArtifact, PromptTooLong, TokenizerMismatch
from danlu.engine.model import check_vocabulary, load
from danlu.engine.request import Sampling
from danlu.models import MODELS
from danlu.models.weights import save_model


@pytest.fixture
def folder(tmp_path):
    write_tiny(tmp_path / "model")
    return tmp_path / "model"


def test_logits_are_the_models_own_in_single_precision(folder):
    model, ids = load(folder), [[5, 3, 200], [7, 7, 1]]
    got = model.logits(ids)
    assert got.shape == (2, 3, 259) and got.dtype == torch.float32 and not got.requires_grad
    torch.testing.assert_close(got, model.model(torch.tensor(ids)).detach())
    torch.testing.assert_close(model.logits(np.array(ids)), got)


def test_transformers_computes_the_same_logits(folder):
    transformers = pytest.importorskip("transformers")
    ids = torch.arange(40).view(2, 20) * 7 % 259
    with torch.no_grad():
        expected = transformers.AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    torch.testing.assert_close(load(folder).logits(ids), expected, rtol=1e-4, atol=1e-4)


def test_special_tokens_inside_a_prompt_stay_text(folder):
    model = load(folder)
    ids = model.encode("a<|endoftext|>b")
    assert ids[0] == model.tokenizer.bos_id
    assert len(ids) == 1 + len(b"a<|endoftext|>b") and model.tokenizer.eos_id not in ids[1:]


def test_a_prompt_longer_than_the_context_is_refused_before_any_work(folder):
    with pytest.raises(PromptTooLong, match=r"101 tokens .* context of 64"):
        load(folder).generate("x" * 100)
    with pytest.raises(PromptTooLong, match="--max_tokens 13"):
        load(folder).generate("x" * 50, max_tokens=14)


def test_an_unknown_sampler_setting_names_its_neighbour(folder):
    with pytest.raises(BadSettings, match="did you mean temperature"):
        load(folder).generate("x", temprature=1.0)


@pytest.mark.parametrize(("key", "value"), [("temperature", -0.1), ("top_p", 0), ("top_k", 0), ("max_tokens", 0), ("min_p", 1.5)])
def test_impossible_sampler_settings_are_refused(folder, key, value):
    with pytest.raises(BadSettings, match=key):
        load(folder).generate("x", **{key: value})


@pytest.mark.parametrize("size", [31, 258, 1000])
def test_a_tokenizer_of_another_size_is_refused(folder, size):
    save_model(MODELS["qwen3"].tiny(vocab_size=size), folder)
    with pytest.raises(TokenizerMismatch, match=rf"{size} tokens but tokenizer.json defines 259"):
        load(folder)


def test_a_little_padding_of_the_table_is_fine_and_never_chosen(folder):
    model = MODELS["qwen3"].tiny(vocab_size=272)
    with torch.no_grad():
        model.output_weight[259:] = 50.0
    save_model(model, folder)
    opened = load(folder)
    writing = opened.write("abc", Sampling(temperature=2.0, max_tokens=30))
    list(writing)
    assert max(writing.ids) < 259


def test_padding_rule():
    check_vocabulary("m", 151936, 151669)  # Qwen3 as published
    with pytest.raises(TokenizerMismatch):
        check_vocabulary("m", 151669, 151936)


@pytest.mark.parametrize("keep", [0, 7, 4000])
def test_truncated_weights_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedWeights, match=r"model\.safetensors"):
        load(folder)


def test_folders_that_are_no_models(tmp_path):
    with pytest.raises(NotAnArtifact, match="no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(NotAnArtifact, match=r"config\.json"):
        load(tmp_path)


def test_every_end_token_of_the_folder_ends_answers(folder):
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [2, 77]}))
    assert load(folder).ends == {0, 2, 77}
