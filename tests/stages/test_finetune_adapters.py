"""danlu finetune --adapter: what is left is PEFT's folder, which knows its base, carries new tokens and merges."""

import json

import pytest
import torch
from tests.models.adapters.moved import gap
from tests.tiny import tiny_model

import danlu
from danlu.core import lineage
from danlu.engine.model import load
from danlu.models.adapters import peft as files
from danlu.models.weights import load_model, read_config

SHORT = {"steps": 3, "batch": 4, "row_tokens": 64, "template": "chatml", "judge": {"text_tokens": 0, "questions": 0}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base with a record, and a dozen conversations."""
    place = tmp_path_factory.mktemp("taught")
    tiny_model(place / "base", hidden_size=64, intermediate_size=64, head_dim=32)
    lines = [{"messages": [{"role": "user", "content": f"heat {number}?"}, {"role": "assistant", "content": "a furnace"}]}
             for number in range(12)]  # fmt: skip
    (place / "chats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    danlu.prepare(str(place / "chats.jsonl"), out=place / "chats", form={"name": "messages"}, holdout=0.2, dedups=[])
    return place


def taught(place, out, base="base", **more):
    return danlu.finetune(place / base, place / "chats", out=place / out, **{**SHORT, **more})


def test_new_tokens_and_a_base_in_codes_go_all_the_way(place):
    done = taught(place, "small", adapter={"name": "lora", "rank": 2, "base": "int8"}, new_tokens=["furnace"])
    assert done.kind == "adapter" and done.lineage.inputs[0].id == lineage.read(place / "base").id
    said = files.read_base(place / "small")
    assert (said["id"], said["held"]) == (lineage.read(place / "base").id, "int8")
    ids = load(place / "small").encode("a furnace")
    assert len(ids) == 4 and ids[-1] == load(place / "base").tokenizer.vocab_size
    wanted = load(place / "small").logits([ids])
    merged = danlu.merge(place / "small", out=place / "small.merged")
    assert merged.lineage.metrics["base_was"] == "int8"
    assert gap(load(place / "small.merged").logits([ids]), wanted) < 1e-5
    assert read_config(place / "small.merged")["vocab_size"] == ids[-1] + 1
    assert load(place / "small.merged").tokenizer.chat_template == load(place / "small").tokenizer.chat_template
    assert gap(wanted[:, :-1, : ids[-1]], load(place / "base").logits([ids[:-1]])) > 1e-4, "it has learned"


def test_a_folder_in_few_bits_is_a_base_for_an_adapter(place):
    text = place / "text.txt"
    text.write_text("The furnace keeps what the fire cannot take. " * 40)
    danlu.compress(place / "base", out=place / "int4", method={"name": "int4", "group": 32}, text=[str(text)], tokens=256)
    taught(place, "over int4", "int4", adapter={"name": "lora", "rank": 2, "base": "int4"})
    before = load_model(place / "int4").state_dict()
    merged = danlu.merge(place / "over int4", out=place / "over int4.merged")
    assert merged.lineage.metrics["base_was"] == "int4" and "quantization_config" not in read_config(place / "over int4.merged")
    after = load_model(place / "over int4.merged").state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) == 2, "the codes' matrix, and a change of rank two"


@pytest.mark.parametrize("kind", ["dora", "prefix"])
def test_other_kinds_leave_folders_that_open(kind, place):
    taught(place, kind, adapter={"name": kind})
    assert len(load(place / kind).generate("heat", max_tokens=3, temperature=0, ignore_eos=True)) >= 0
    assert files.read_config(place / kind)["peft_type"] == {"dora": "LORA", "prefix": "PREFIX_TUNING"}[kind]
