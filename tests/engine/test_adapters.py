"""Adapters by request: what PEFT computes for each, alone and beside others in one step; folders that are refused say why."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.engine.runners.mixed import CUTS, close, opened, play, tables, texts
from tests.engine.test_engine_families import told
from tests.tiny import write_tiny

from danlu.core.errors import DamagedWeights, NotAnArtifact, UnsupportedModel
from danlu.engine.adapters import places, read_adapter
from danlu.engine.job import Job
from danlu.engine.model import Model, load
from danlu.engine.opening import Serving, open_engine
from danlu.engine.request import Sampling
from danlu.engine.runners import native
from danlu.engine.runners.packed import PackedRunner
from danlu.engine.work import Piece, RowFault
from danlu.models import MODELS
from danlu.models.weights import load_model, save_model

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GREEDY = Sampling(temperature=0, max_tokens=8, ignore_eos=True)
KINDS = {
    "all": {"r": 3, "lora_alpha": 7, "target_modules": ALL},
    "few": {"r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    "odd": {
        "r": 4, "target_modules": ["v_proj", "up_proj"], "layers_to_transform": [1],
        "rank_pattern": {"layers.1.self_attn.v_proj": 1}, "alpha_pattern": {"up_proj": 3},
    },
}  # fmt: skip


def trained(folder, base, **config):
    """A folder as PEFT saves it after training: B is no longer zero."""
    import peft

    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **config))
    generator = torch.Generator().manual_seed(len(str(folder)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return model.unload()


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def folder(request, tmp_path_factory):
    """A base and three adapters for it, all read by PEFT."""
    import transformers

    place = tmp_path_factory.mktemp(request.param)
    save_model(MODELS[request.param].tiny(), place / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(place / "base")
    for name, config in KINDS.items():
        names = {"gpt2": {"all": ["c_attn", "c_proj", "c_fc"], "few": ["c_attn"], "odd": ["c_fc"]}}.get(request.param, {})
        config = {**config, "target_modules": names.get(name, config["target_modules"])}
        if names and name == "odd":
            config |= {"rank_pattern": {}, "alpha_pattern": {"mlp.c_fc": 3}, "layers_pattern": "h"}
        trained(place / name, base, **({**config, "fan_in_fan_out": True} if names else config))
    return place


def reference(folder, name, ids):
    """PEFT's logits of a text, by itself."""
    import peft
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    model = model if name is None else peft.PeftModel.from_pretrained(model, folder / name)
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(ids)[None]).logits[0].numpy()


def test_three_adapters_in_one_step_give_what_peft_gives_for_each_alone(folder):
    ids, model = texts(), Model(load_model(folder / "base"), None, folder / "base")
    runner = PackedRunner(model, 40, 4, adapters={name: read_adapter(folder / name) for name in KINDS})
    used = dict(zip(CUTS, [*KINDS, None], strict=True))
    wanted = {row: reference(folder, used[row], ids[row]) for row in CUTS}
    close(play(runner, ids, tables(4, 40), adapters=used), wanted)
    for row in CUTS:
        close(play(runner, ids, tables(4, 40), adapters=used, rows=(row,)), {row: wanted[row]})
    plain = {row: reference(folder, None, ids[row]) for row in CUTS}
    close(play(runner, ids, tables(4, 40)), plain)
    assert all(np.abs(plain[row] - wanted[row]).max() > 1e-2 for row in CUTS if used[row])


def test_an_adapters_arrays_are_the_definition_for_other_runners(folder):
    adapter, model = read_adapter(folder / "few"), load_model(folder / "base")
    for own, (a, b, scale) in places(adapter, model).items():
        layer = model.get_submodule(own)
        assert a.dtype == b.dtype == np.float32 and len(a) == 2 and scale == pytest.approx(5 / 2**0.5)
        turned = layer.weight if a.shape[1] == layer.weight.size(1) and len(b) == len(layer.weight) else layer.weight.t()
        assert turned.shape == (len(b), a.shape[1])
    assert adapter.bytes == 4 * sum(a.size + b.size for a, b, _ in adapter.modules.values())


def test_an_unknown_adapter_ends_its_row_alone(folder):
    model = Model(load_model(folder / "base"), None, folder / "base")
    runner = PackedRunner(model, 4, 4, adapters={"few": read_adapter(folder / "few")})
    with pytest.raises(RowFault, match=r"'none'.*known: few") as fault:
        runner.run([Piece(1, np.array([5]), 0, np.array([0]), 1), Piece(2, np.array([5]), 0, np.array([1]), 1, "none")])
    assert fault.value.row == 2


def written(folder, config=(), tensors=None):
    """An adapter folder without PEFT."""
    folder.mkdir()
    full = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "init_lora_weights": True, **dict(config)}
    (folder / "adapter_config.json").write_text(json.dumps(full))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file(
        tensors or {name.format("A"): torch.ones(2, 24), name.format("B"): torch.ones(60, 2)},
        folder / "adapter_model.safetensors",
    )
    return folder


REFUSED = {
    "use_dora": True, "bias": "all", "modules_to_save": ["lm_head"], "lora_bias": True, "layer_replication": [[0, 2]],
    "trainable_token_indices": [3], "target_parameters": ["experts"], "init_lora_weights": "pissa", "use_qalora": True,
    "alora_invocation_tokens": [1], "a_field_of_tomorrow": 1, "r": 0, "lora_alpha": "8",
}  # fmt: skip


@pytest.mark.parametrize("field", REFUSED)
def test_what_is_not_computed_is_refused_by_name(field, tmp_path):
    assert read_adapter(written(tmp_path / "good", {"lora_dropout": 0.1, "task_type": "CAUSAL_LM"})).modules
    with pytest.raises(UnsupportedModel, match=rf"(?s)not computed here.*{field}: .*merge"):
        read_adapter(written(tmp_path / "bad", {field: REFUSED[field]}))


def test_other_kinds_and_other_tensors_are_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="peft_type: 'IA3'"):
        read_adapter(written(tmp_path / "a", {"peft_type": "IA3"}))
    more = {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 31)}
    with pytest.raises(UnsupportedModel, match="lora_embedding_A"):
        read_adapter(written(tmp_path / "b", tensors=more))


def test_damage_is_told(tmp_path):
    with pytest.raises(NotAnArtifact, match=r"adapter_config\.json"):
        read_adapter(tmp_path / "nowhere")
    folder = written(tmp_path / "a")
    whole = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(whole[:-9])
    with pytest.raises(DamagedWeights, match="cannot be read"):
        read_adapter(folder)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(NotAnArtifact, match="pickle"):
        read_adapter(folder)
    tensors = load_file(written(tmp_path / "b") / "adapter_model.safetensors")
    a, b = sorted(tensors)
    for index, (wrong, why) in enumerate([
        ({a: tensors[a]}, "do not go together"), ({a: tensors[a][:1], b: tensors[b]}, "do not go together"),
        ({a: tensors[a] * torch.inf, b: tensors[b]}, "no numbers"),
        ({a: torch.ones(3, 24), b: torch.ones(60, 3)}, "3 channels, but"),
    ]):  # fmt: skip
        with pytest.raises(DamagedWeights, match=why):
            read_adapter(written(tmp_path / f"c{index}", tensors=wrong))


def test_an_adapter_of_another_base_is_refused_by_name(tmp_path):
    name = "base_model.model.{}.lora_{}.weight"
    llama = MODELS["llama"].tiny()
    for index, (module, inputs, outputs, why) in enumerate([
        ("model.layers.0.self_attn.q_proj", 25, 60, "25 inputs and 60 outputs, but the layer has 24 and 60"),
        ("model.layers.7.self_attn.q_proj", 24, 60, "layers.7.self_attn.q_proj: no layer of llama"),
        ("lm_head", 24, 31, "lm_head: no layer of llama"),
    ]):  # fmt: skip
        tensors = {name.format(module, "A"): torch.ones(2, inputs), name.format(module, "B"): torch.ones(outputs, 2)}
        with pytest.raises(UnsupportedModel, match=why):
            places(read_adapter(written(tmp_path / str(index), tensors=tensors)), llama)


@pytest.mark.parametrize("runner", ["packed", "native"])
def test_the_engine_answers_each_request_by_its_own_adapter(runner, tmp_path):
    """Greedy answers of one prompt are PEFT's for each adapter, asked all at once and again from blocks that are held."""
    import peft
    import transformers

    if runner == "native" and (why := native.unfit(opened("llama"))) is not None:
        pytest.skip(why)
    write_tiny(tmp_path / "base", "llama")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    for name, config in KINDS.items():
        trained(tmp_path / name, base, **config)
    model = load(tmp_path / "base")
    prompt = tuple(model.encode("The same words, long enough for a block to be sealed"))
    wanted = {}
    for name in (None, *KINDS):
        other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        other = other if name is None else peft.PeftModel.from_pretrained(other, tmp_path / name)
        found = other.generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64), do_sample=False,
            max_new_tokens=8, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        wanted[name] = found[0, len(prompt) :].tolist()
    assert len(set(map(tuple, wanted.values()))) == 4
    settings = Serving(runner=runner, rows=4, cache_tokens=512)
    with open_engine(model, settings, {name: tmp_path / name for name in KINDS}) as engine:
        jobs = [Job(prompt, GREEDY, 8, frozenset(), adapter=name) for name in wanted]
        for _ in range(2):
            assert [ids for ids, _ in told(engine, jobs)] == list(wanted.values())
        assert engine.status().found_tokens >= 4 * 16  # each found the blocks of its own adapter
