"""danlu merge: one folder that computes what base and adapter computed, certified, and never over another base unasked."""

import json
import shutil

import pytest
import torch
from tests.models.adapters.moved import gap, moved
from tests.tiny import tiny_model, write_tiny

import danlu
from danlu.core import lineage
from danlu.core.errors import BadInput, NotAnArtifact, OutputExists, UnsupportedModel
from danlu.engine.folder import model_input
from danlu.engine.model import load
from danlu.models.adapters.base import save_adapter
from danlu.models.heads import HeadConfig, attach
from danlu.models.resize import resize
from danlu.models.weights import load_model, read_config
from danlu.tokenizer.extend import extend

CASES = {
    "lora": ("qwen3", "lora", {}), "dora": ("qwen3", "dora", {"rank": 3}), "gpt2": ("gpt2", "lora", {"rslora": True}),
    "int8": ("llama", "lora", {"base": "int8"}), "whole": ("llama", "lora", {"whole": ["norm"]}),
}  # fmt: skip


def made(place, family="qwen3", kind="lora", **settings):
    """A base with a record and an adapter over it; the adapted model."""
    tiny_model(place / "base", family)
    model = moved(load_model(place / "base"), kind, **settings)
    save_adapter(model, place / "adapter", place / "base", model_input(place / "base").id)
    return model


def their_logits(folder, ids):
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits


@pytest.mark.parametrize("case", CASES)
def test_the_folder_computes_what_the_two_computed(case, tmp_path):
    family, kind, settings = CASES[case]
    live = made(tmp_path, family, kind, **settings)
    artefact = danlu.merge(tmp_path / "adapter", out=tmp_path / "merged")
    merged, ids = load(tmp_path / "merged"), [5, 90, 200, 7, 31]
    wanted = live(torch.tensor([ids])).detach()
    assert gap(merged.logits([ids]), wanted) < 1e-5
    assert gap(their_logits(tmp_path / "merged", ids), wanted) < 1e-5
    figures = artefact.lineage.metrics
    assert figures["against_adapter"]["relative_difference"] < 1e-5 and figures["against_adapter"]["top1_agreement"] == 1
    assert figures["against_transformers"]["relative_difference"] < 1e-5 and figures["same_ends"]
    assert figures["base_was"] == settings.get("base", "float")
    assert json.loads((tmp_path / "merged" / "certificate.json").read_text()) == figures
    assert "Certificate of the merge" in (tmp_path / "merged" / "README.md").read_text()
    assert artefact.kind == "model" and artefact.lineage.licences == ("CC0-1.0",)
    assert next((one.role, one.id) for one in artefact.lineage.inputs) == ("model", lineage.read(tmp_path / "base").id)
    assert read_config(tmp_path / "merged")["model_type"] == read_config(tmp_path / "base")["model_type"]


@pytest.mark.parametrize("method", ["int8", "int4"])
def test_over_a_folder_in_few_bits_the_float_matrices_that_it_means_take_the_change(method, tmp_path):
    tiny_model(tmp_path / "float", hidden_size=64, intermediate_size=64, head_dim=32)
    (tmp_path / "text.txt").write_text("The furnace keeps what the fire cannot take. " * 40)
    group = {} if method == "int8" else {"group": 32}
    danlu.compress(tmp_path / "float", out=tmp_path / "base", method={"name": method, **group}, text=[str(tmp_path / "text.txt")],
                   tokens=256)  # fmt: skip
    live = moved(load_model(tmp_path / "base"), rank=2)
    save_adapter(live, tmp_path / "adapter", tmp_path / "base", model_input(tmp_path / "base").id)
    artefact = danlu.merge(tmp_path / "adapter", out=tmp_path / "merged")
    assert artefact.lineage.metrics["base_was"] == method and "quantization_config" not in read_config(tmp_path / "merged")
    ids = [5, 90, 200, 7, 31]
    assert gap(load(tmp_path / "merged").logits([ids]), live(torch.tensor([ids])).detach()) < 1e-5


def test_a_tasks_head_is_merged_with_its_body(tmp_path):
    write_tiny(tmp_path / "base", "bert")
    model = moved(attach(load_model(tmp_path / "base"), HeadConfig(task="classify", labels=["a", "b"]), seed=1))
    save_adapter(model, tmp_path / "adapter", tmp_path / "base")
    artefact = danlu.merge(tmp_path / "adapter", out=tmp_path / "merged")
    assert artefact.lineage.metrics["against_adapter"]["relative_difference"] < 1e-5
    (before,), (after,) = (load(tmp_path / name).classify(["a stone"]) for name in ("adapter", "merged"))
    assert before.probabilities == pytest.approx(after.probabilities, abs=1e-5)


def test_another_base_is_refused_unless_it_is_meant(tmp_path):
    made(tmp_path)
    tiny_model(tmp_path / "other", seed=4)
    with pytest.raises(BadInput, match=r"--another"):
        danlu.merge(tmp_path / "adapter", out=tmp_path / "merged", base=tmp_path / "other")
    assert not (tmp_path / "merged").exists()
    done = danlu.merge(tmp_path / "adapter", out=tmp_path / "merged", base=tmp_path / "other", another=True)
    assert done.lineage.inputs[0].id == lineage.read(tmp_path / "other").id


def test_a_foreign_base_is_known_by_its_content(tmp_path):
    write_tiny(tmp_path / "base")
    save_adapter(moved(load_model(tmp_path / "base")), tmp_path / "adapter", tmp_path / "base", model_input(tmp_path / "base").id)
    danlu.merge(tmp_path / "adapter", out=tmp_path / "merged")
    write_tiny(tmp_path / "base", seed=7)
    with pytest.raises(BadInput, match="trained over the base sha256:"):
        danlu.merge(tmp_path / "adapter", out=tmp_path / "again")


def test_what_cannot_be_merged_leaves_nothing(tmp_path):
    made(tmp_path, kind="prompt", tokens=3)
    with pytest.raises(UnsupportedModel, match="cannot be merged"):
        danlu.merge(tmp_path / "adapter", out=tmp_path / "merged")
    with pytest.raises(NotAnArtifact, match="is no adapter"):
        danlu.merge(tmp_path / "base", out=tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "kept").write_text("mine")
    with pytest.raises(OutputExists):
        danlu.merge(tmp_path / "adapter", out=tmp_path / "merged")


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_go_through_adapter_merge_and_export(tied, tmp_path):
    tiny_model(tmp_path / "base", tie_word_embeddings=tied)
    model, old = load_model(tmp_path / "base"), load(tmp_path / "base").tokenizer
    new = extend(old, ["furnace", "丹炉"])
    resize(model, old, new)
    ids = new.encode("a furnace, 丹炉")
    assert {new.vocab["furnace"], new.vocab["丹炉"]} < set(ids)
    moved(model, new_rows=[new.vocab["furnace"], new.vocab["丹炉"]])
    before, text = model.embedding.detach().clone(), torch.tensor([ids])
    optimiser = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad], lr=0.01)
    for _ in range(3):
        model.cross_entropy_sum(model.hidden(text)[0, :-1], text[0, 1:]).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert torch.equal(model.embedding, before)
    save_adapter(model, tmp_path / "adapter", tmp_path / "base", model_input(tmp_path / "base").id)
    new.save(tmp_path / "adapter")
    wanted = model(text).detach()
    danlu.merge(tmp_path / "adapter", out=tmp_path / "merged")
    danlu.export(tmp_path / "merged", out=tmp_path / "exported")
    danlu.export(tmp_path / "adapter", out=tmp_path / "at once")
    for name in ("adapter", "merged", "exported", "at once"):
        opened = load(tmp_path / name)
        assert opened.tokenizer.encode("a furnace, 丹炉") == ids
        assert gap(opened.logits([ids]), wanted) < 1e-5
        if name != "adapter":
            assert gap(their_logits(tmp_path / name, ids), wanted) < 1e-5
            assert read_config(tmp_path / name)["vocab_size"] == new.vocab_size
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    base.resize_token_embeddings(new.vocab_size)
    reference = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.inference_mode():
        assert gap(reference(text).logits, wanted) < 1e-5
    shutil.rmtree(tmp_path / "exported")
