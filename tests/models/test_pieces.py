"""Tensors that checkpoints keep in pieces are stacked on loading, taken apart on saving, and checked piece by piece."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from danlu.core.errors import DamagedWeights
from danlu.models import MODELS
from danlu.models.weights import load_model, save_model

STACKED = ["mixtral", "qwen3_moe", "deepseek_v3"]


@pytest.fixture(params=STACKED)
def model(request):
    return MODELS[request.param].tiny().eval()


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def expert_names(folder):
    return sorted(name for name in load_file(folder / "model.safetensors") if ".experts." in name)


def test_experts_lie_apart_on_disk_and_load_equal(model, tmp_path):
    save_model(model, tmp_path)
    names = expert_names(tmp_path)
    assert names and all(name.split(".experts.")[1].split(".")[0].isdigit() for name in names)
    again = load_model(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert {type(part) for part in again.parameters()} == {torch.nn.Parameter}


def test_the_stacked_layout_loads_too(model, tmp_path):
    save_model(model, tmp_path)
    save_file({name: part.contiguous() for name, part in model.state_dict().items()}, tmp_path / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    again = load_model(tmp_path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_missing_piece_and_a_misshapen_one_are_named(model, tmp_path):
    save_model(model, tmp_path)
    lost, cut, *_ = expert_names(tmp_path)

    def edit(tensors):
        del tensors[lost]
        tensors[cut] = tensors[cut][:-1].clone()

    change(tmp_path, edit)
    with pytest.raises(DamagedWeights) as caught:
        load_model(tmp_path)
    assert f"{lost}: missing" in str(caught.value) and f"{cut}: shape" in str(caught.value)
    assert "2 tensor(s)" in str(caught.value)


def test_an_expert_too_many_is_named(model, tmp_path):
    save_model(model, tmp_path)
    first = expert_names(tmp_path)[0]
    extra = first.replace(".experts.0.", ".experts.77.")
    change(tmp_path, lambda tensors: tensors.update({extra: tensors[first].clone()}))
    with pytest.raises(DamagedWeights, match=r"experts\.77\..*superfluous"):
        load_model(tmp_path)


def test_buffers_stay_buffers_in_full_precision(tmp_path):
    model = MODELS["deepseek_v3"].tiny()
    bias = model.model.layers[1].mlp.gate.e_score_correction_bias
    bias += torch.linspace(0, 1e-3, len(bias))
    save_model(model, tmp_path)
    again = load_model(tmp_path, torch.bfloat16)
    found = again.model.layers[1].mlp.gate.e_score_correction_bias
    assert torch.equal(found, bias) and found.dtype == torch.float32
    assert "model.layers.1.mlp.gate.e_score_correction_bias" in dict(again.named_buffers())
    assert again.model.layers[1].mlp.gate.weight.dtype == torch.bfloat16
