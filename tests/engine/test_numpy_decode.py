"""The fast decoder against its plain twin, the model itself, on odd shapes of every family it accepts."""

import numpy as np
import pytest
import torch

from danlu.engine.decode import ModelDecoder
from danlu.engine.numpy_decode import NumpyDecoder, prepare
from danlu.models import MODELS
from danlu.models.base import CausalLM

IDS = np.arange(19) * 5 % 31
SHAPES = {
    "grouped": {},
    "one key head": {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 10},
    "as many key heads": {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 14},
    "interpolated": {"rope_scaling": {"rope_type": "linear", "factor": 3.0}},
    "scaled scores": {"rope_scaling": {"rope_type": "yarn", "factor": 3.0, "beta_fast": 4.0}},
    "own head": {"tie_word_embeddings": False, "rope_theta": 1e6, "rms_norm_eps": 1e-3},
}


def decoders(family, **changes):
    torch.manual_seed(0)
    model = MODELS[family].tiny(**changes)
    for name, part in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(part, 0.5, 2.0)  # a gain that is not one everywhere
    prepared = prepare(model)
    assert prepared is not None
    return NumpyDecoder(prepared, 40), ModelDecoder(model, 40), model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_prompt_and_steps_give_the_models_own_logits(family, shape):
    fast, plain, model = decoders(family, **SHAPES[shape])
    whole = model(torch.from_numpy(IDS)[None])[0].detach().numpy()
    for start, end in [(0, 7), (7, 8), (8, 9), (9, 14), (14, 15), (15, 19)]:
        got = fast.read(IDS[start:end])
        np.testing.assert_allclose(got, plain.read(IDS[start:end]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got, whole[end - 1], rtol=1e-4, atol=1e-5)
        assert fast.length == plain.length == end


def test_a_prompt_longer_than_a_piece_is_read_in_pieces(monkeypatch):
    fast, plain, _ = decoders("qwen3")
    monkeypatch.setattr("danlu.engine.numpy_decode._PIECE", 5)
    np.testing.assert_allclose(fast.read(IDS), plain.read(IDS), rtol=1e-4, atol=1e-5)


def test_frequencies_that_depend_on_the_length_are_those_of_the_room_it_was_given():
    scaling = {"rope_type": "dynamic", "factor": 2.0}
    fast, plain, model = decoders("llama", rope_scaling=scaling, max_position_embeddings=7)
    for start, end in [(0, 7), (7, 8), (8, 19)]:
        np.testing.assert_allclose(fast.read(IDS[start:end]), plain.read(IDS[start:end]), rtol=1e-4, atol=1e-5)
    exact, whole = NumpyDecoder(prepare(model), 19), model(torch.from_numpy(IDS)[None])[0, -1].detach().numpy()
    np.testing.assert_allclose(exact.read(IDS), whole, rtol=1e-4, atol=1e-5)


PARTS = [
    ("llama", {"attention_bias": True}),
    ("llama", {"mlp_bias": True}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 3}),
]


@pytest.mark.parametrize(("family", "changes"), PARTS)
def test_a_model_with_parts_that_it_does_not_compute_is_left_to_the_model(family, changes):
    assert prepare(MODELS[family].tiny(**changes)) is None


def test_other_families_and_types_are_left_to_the_model():
    causal = [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM)]
    assert {name for name in causal if prepare(MODELS[name].tiny()) is not None} == {"llama", "qwen3"}
    assert prepare(MODELS["qwen3"].tiny().bfloat16()) is None


@pytest.mark.parametrize("family", [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM)])
def test_the_plain_decoder_equals_the_whole_forward_for_every_family(family):
    model = MODELS[family].tiny()
    decoder, whole = ModelDecoder(model, 19), model(torch.from_numpy(IDS)[None])[0].detach().numpy()
    for start, end in [(0, 5), (5, 6), (6, 8), (8, 19)]:
        np.testing.assert_allclose(decoder.read(IDS[start:end]), whole[end - 1], rtol=1e-4, atol=1e-5)
