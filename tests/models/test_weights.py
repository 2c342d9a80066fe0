"""Folders that are damaged, odd or large: what is wrong is named at once, what is right is loaded."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from danlu.core.errors import DamagedWeights, NotAnArtifact, TokenizerMismatch, UnsupportedModel
from danlu.models import MODELS
from danlu.models.weights import load_model, save_model

IDS = torch.tensor([[1, 5, 2, 30, 7]])


@pytest.fixture
def folder(tmp_path):
    save_model(MODELS["llama"].tiny(), tmp_path)
    return tmp_path


def change(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def set_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_file_cut_short_is_named(folder, cut):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DamagedWeights, match=r"model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"\xff" * 64, (10).to_bytes(8, "little") + b"not json, no"])
def test_a_file_that_is_no_safetensors_is_named(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(DamagedWeights, match=r"model\.safetensors"):
        load_model(folder)


def test_everything_wrong_is_listed_at_once(folder):
    def edit(tensors):
        del tensors["model.norm.weight"]
        tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 2)
        tensors["model.layers.7.mlp.up_proj.weight"] = torch.zeros(5)
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].to(torch.int8)

    change(folder, edit)
    with pytest.raises(DamagedWeights) as caught:
        load_model(folder)
    text = str(caught.value)
    assert "4 tensor(s)" in text and "model.norm.weight: missing" in text and "[3, 2]" in text
    assert "layers.7.mlp.up_proj.weight: superfluous" in text and "I8" in text


def test_a_tied_head_stored_twice_must_agree(folder):
    change(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}))
    assert load_model(folder)(IDS).shape == (1, 5, 31)
    change(folder, lambda tensors: tensors["lm_head.weight"].add_(1))
    with pytest.raises(DamagedWeights, match="ties the two"):
        load_model(folder)


def test_shards_load_as_one_and_a_lost_shard_is_named(tmp_path):
    model = MODELS["qwen3"].tiny()
    save_model(model, tmp_path, shard_bytes=6000)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2 and not (tmp_path / "model.safetensors").exists()
    assert torch.equal(load_model(tmp_path)(IDS), model(IDS))

    import transformers

    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(reference(IDS).logits, model(IDS), rtol=1e-4, atol=1e-5)
    shards[1].unlink()
    with pytest.raises(DamagedWeights, match=shards[1].name):
        load_model(tmp_path)


def test_an_index_cannot_reach_outside_its_folder(tmp_path):
    save_model(MODELS["qwen3"].tiny(), tmp_path, shard_bytes=6000)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    with pytest.raises(DamagedWeights, match="passwd"):
        load_model(tmp_path)


def test_an_index_that_says_otherwise_than_the_shards_is_refused(tmp_path):
    save_model(MODELS["qwen3"].tiny(), tmp_path, shard_bytes=6000)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first, second = sorted(set(index["weight_map"].values()))[:2]
    moved = next(name for name, file in index["weight_map"].items() if file == first)
    left_out = next(name for name, file in index["weight_map"].items() if file == second)
    index["weight_map"][moved] = second
    index["weight_map"]["made.up"] = second
    del index["weight_map"][left_out]
    path.write_text(json.dumps(index))
    with pytest.raises(DamagedWeights) as caught:
        load_model(tmp_path)
    assert all(part in str(caught.value) for part in (f"{moved}: said", "made.up: said", "nowhere", f"{left_out}: in {second}"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_counted_and_refused(folder, value):
    def edit(tensors):
        tensors["model.norm.weight"][[3, 5]] = value

    change(folder, edit)
    with pytest.raises(DamagedWeights, match=r"(?s)1 tensor.*model\.norm\.weight: 2 of 24 values"):
        load_model(folder)


def test_weights_too_large_for_the_type_asked_for_are_refused(folder):
    change(folder, lambda tensors: tensors["model.norm.weight"].fill_(1e6))
    assert load_model(folder).model.norm.weight.max() == 1e6
    with pytest.raises(DamagedWeights, match="beyond this type"):
        load_model(folder, torch.float16)


@pytest.mark.parametrize("stored", [torch.float64, torch.float16, torch.bfloat16])
def test_other_types_are_converted_piece_by_piece(folder, stored, monkeypatch):
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.to(stored) for name, tensor in tensors.items()}, folder / "model.safetensors")
    monkeypatch.setattr("danlu.models.weights._BUFFERED", 37)
    model = load_model(folder)
    for name, tensor in tensors.items():
        assert torch.equal(model.get_parameter(name), tensor.to(stored).float()), name


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7}, "refuses a Llama whose 7 heads"),
        ({"head_dim": 5}, "even head_dim"),
        ({"vocab_size": -3}, "vocab_size"),
        ({"intermediate_size": 1e9}, "shape"),
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_taken(folder, fields, named):
    set_config(folder, **fields)
    with pytest.raises((UnsupportedModel, DamagedWeights), match=named):
        load_model(folder)


def test_pickles_are_named_but_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DamagedWeights, match=r"pytorch_model\.bin may run code"):
        load_model(folder)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(NotAnArtifact, match=r"config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnsupportedModel, match="not JSON"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden_act": "gelu"}, "gelu"),
        ({"rope_parameters": {"rope_type": "proportional", "factor": 4.0, "rope_theta": 1e4}}, "proportional"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "linear needs factor"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "speed": 3}}, "speed"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_parameters says otherwise"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"model_type": "mamba9"}, "mamba9"),
        ({"model_type": "danlu_llama"}, "llama"),
        ({"hidden_size": None}, "hidden_size: missing"),
        ({"num_key_value_heads": 4}, "do not divide"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name(folder, fields, named):
    set_config(folder, **fields)
    with pytest.raises(UnsupportedModel, match=named):
        load_model(folder)


def test_all_reasons_to_refuse_come_together(folder):
    set_config(folder, hidden_act="relu", partial_rotary_factor=0.5, logit_scale=2)
    with pytest.raises(UnsupportedModel, match=r"(?s)3 thing.*relu.*partial_rotary_factor.*logit_scale"):
        load_model(folder)


def test_sliding_windows_are_computed_and_contradictions_refused(tmp_path):
    save_model(MODELS["qwen3"].tiny(), tmp_path)
    set_config(tmp_path, use_sliding_window=True, sliding_window=3, layer_types=["full_attention", "sliding_attention"])
    assert load_model(tmp_path).config.windows == (None, 3)
    set_config(tmp_path, layer_types=None, max_window_layers=0)
    assert load_model(tmp_path).config.windows == (3, 3)
    for fields, named in [
        ({"sliding_window": None}, "use_sliding_window needs a sliding_window"),
        ({"use_sliding_window": False, "layer_types": ["full_attention", "sliding_attention"]}, "use_sliding_window is off"),
        ({"layer_types": ["full_attention"]}, "names 1 layers of 2"),
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
    ]:
        set_config(tmp_path, **{"use_sliding_window": True, "sliding_window": 3, **fields})
        with pytest.raises(UnsupportedModel, match=named):
            load_model(tmp_path)


def test_rope_theta_is_read_where_older_files_put_it(folder):
    set_config(folder, rope_parameters=None, rope_scaling=None, rope_theta=123.0)
    assert load_model(folder).config.rope_theta == 123.0


def test_a_tokenizer_of_another_size_is_refused(folder):
    words = {f"w{index}": index for index in range(40)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": words}, "added_tokens": []}))
    with pytest.raises(TokenizerMismatch, match=r"embeds 31 tokens but tokenizer\.json defines 40"):
        load_model(folder)
    small = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 30, "content": "<|endoftext|>"}]}
    (folder / "tokenizer.json").write_text(json.dumps(small))
    assert load_model(folder).config.vocab_size == 31


def test_early_gpt2_files_without_prefix_and_with_masks_load(tmp_path):
    model = MODELS["gpt2"].tiny()
    save_model(model, tmp_path)

    def edit(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 64, 64).tril()

    change(tmp_path, edit)
    assert torch.equal(load_model(tmp_path)(IDS), model(IDS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_in_the_type_asked_for(folder, dtype):
    model = load_model(folder, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model(IDS).dtype == dtype


def test_gpt2_says_when_a_row_is_longer_than_its_positions():
    with pytest.raises(ValueError, match="64 positions"):
        MODELS["gpt2"].tiny()(torch.zeros(1, 65, dtype=torch.int64))


def test_the_head_of_a_tied_model_is_stored_once(folder):
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")


def test_a_full_disk_is_named(folder, monkeypatch):
    from safetensors import SafetensorError

    from danlu.core.errors import NoSpace
    from danlu.models import weights

    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(NoSpace, match="No space left"):
        save_model(MODELS["llama"].tiny(), folder)
