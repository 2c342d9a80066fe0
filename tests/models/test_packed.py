"""Matrices of small integers on disk: exact there and back, the bits that compressed-tensors packs, and refusals by name."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from danlu.compress.pack import write
from danlu.core.errors import DamagedWeights, UnsupportedModel
from danlu.models import packed
from danlu.models.weights import load_model, read_packed
from danlu.nn.quant import Quantised, dequantised, quantise_int4, quantise_int8
from tests.tiny import write_tiny

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}


def some_codes(bits: int, outputs: int, groups: int, group: int) -> Quantised:
    half = 1 << (bits - 1)
    codes = torch.randint(-half, half, (outputs, groups * group), generator=torch.Generator().manual_seed(3)).to(torch.int8)
    return Quantised(codes, torch.rand(outputs, groups).bfloat16() + 0.1, None, bits, group)


@given(bits=st.sampled_from([4, 8]), outputs=st.integers(1, 5), groups=st.integers(1, 3), group=st.integers(5, 19))
def test_what_is_packed_is_unpacked(bits, outputs, groups, group):
    small = some_codes(bits, outputs, groups, group)
    words, scales, shape = packed.packed(small, "x.weight").values()
    again = packed.unpacked(words, scales, int(shape[1]))
    assert torch.equal(again.codes, small.codes) and torch.equal(again.scales, small.scales)
    assert (again.bits, again.group, shape.tolist()) == (bits, group, list(small.codes.shape))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inputs", [32, 40, 13])
def test_the_words_are_those_of_compressed_tensors(bits, inputs):
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    small = some_codes(bits, 3, 1, inputs)
    words = packed.packed(small, "x.weight")["x.weight_packed"]
    assert torch.equal(words, helpers.pack_to_int32(small.codes, bits))
    assert torch.equal(helpers.unpack_from_int32(words, bits, torch.Size([3, inputs])), small.codes)


@pytest.fixture
def folder(tmp_path):
    """A model in four bits, and beside it the one it was made from."""
    write_tiny(tmp_path / "whole", "qwen3", **SIZES)
    (tmp_path / "small").mkdir()
    write(load_model(tmp_path / "whole"), tmp_path / "small", lambda weight: quantise_int4(weight, 32), 32)
    return tmp_path / "small"


def test_a_model_is_read_back_as_its_codes_mean(folder):
    whole, small = load_model(folder.parent / "whole"), load_model(folder)
    codes = read_packed(folder)
    assert len(codes) == 14
    for name, tensor in whole.state_dict().items():
        found = small.state_dict()[name]
        if name in codes:
            again = quantise_int4(tensor, 32)
            assert torch.equal(codes[name].codes, again.codes) and torch.equal(codes[name].scales, again.scales)
            assert torch.equal(found, dequantised(again)) and not torch.equal(found, tensor)
        else:
            assert torch.equal(found, tensor if tensor.dim() == 1 else tensor.bfloat16().float())


def test_eight_bits_are_nearer_than_four(folder):
    whole, small = load_model(folder.parent / "whole"), load_model(folder)
    (folder.parent / "eight").mkdir()
    write(whole, folder.parent / "eight", quantise_int8, None)
    eight = load_model(folder.parent / "eight")
    ids = torch.arange(14)[None] * 5 % 31
    far, near = ((model(ids) - whole(ids)).square().mean() for model in (small, eight))
    assert 0 < near < far / 20


def test_two_models_of_one_packed_folder_are_equal(folder):
    first, second = load_model(folder), load_model(folder)
    assert all(torch.equal(one, two) for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"quant_method": "gptq"}, "quant_method: 'gptq'"),
        ({"format": "float-quantized"}, "format: 'float-quantized'"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
        ({"quantization_status": "frozen"}, "quantization_status"),
        ({"num_bits": 3}, "num_bits 3"),
        ({"symmetric": False}, "symmetric False"),
        ({"type": "float"}, "type float"),
        ({"strategy": "block"}, "strategy: 'block'"),
        ({"input_activations": {"num_bits": 8}}, "activations in integers"),
    ],
)
def test_other_layouts_are_refused_by_name(folder, change, named):
    config = json.loads((folder / "config.json").read_text())
    group = config["quantization_config"]["config_groups"]["group_0"]
    for key, value in change.items():
        place = group if key in group else group["weights"] if key in group["weights"] else config["quantization_config"]
        place[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=named):
        load_model(folder)


@pytest.mark.parametrize(
    ("end", "value", "named"),
    [
        ("_scale", None, r"q_proj\.weight_scale is missing"),
        ("_shape", None, r"q_proj\.weight_shape is missing"),
        ("_packed", torch.zeros(64, 8), "packed as F32"),
        ("_packed", torch.zeros(64, 5, dtype=torch.int32), "cannot be unpacked"),
        ("_scale", torch.ones(63, 2), "cannot be unpacked"),
        ("_shape", torch.tensor([64, 96]), r"shape \[64, 96\], but config"),
        ("_scale", torch.full((64, 2), float("nan")), "no numbers"),
    ],
)
def test_damaged_matrices_are_named(folder, end, value, named):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = f"model.layers.0.self_attn.q_proj.weight{end}"
    del tensors[name]
    if value is not None:
        tensors[name] = value
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(DamagedWeights, match=named):
        load_model(folder)


def test_codes_without_a_word_in_the_config_are_still_read(folder):
    """The tensors say all there is; config.json says it for other programs."""
    config = json.loads((folder / "config.json").read_text())
    before = load_model(folder).state_dict()
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    after = load_model(folder).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
