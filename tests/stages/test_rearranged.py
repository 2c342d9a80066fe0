"""Spans, prefixes and middles from end to end: trained, resumed exactly, used, exported, and judged only where that is honest."""

import json

import pytest
import torch
from tests.stages.small_pretrain import pace, settings, write_dataset, write_tokenizer

import danlu
from danlu.core.artifact import open_artifact
from danlu.core.errors import BadInput, BadSettings, Interrupted
from danlu.core.files import sha256
from danlu.objectives import OBJECTIVES
from danlu.train.watchers.progress import Progress

SIZES = {
    "span": {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4},
    "prefix": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    "fim": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
}


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    monkeypatch.setattr("danlu.train.speed.measure", lambda threads=None, dtype=None: pace())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rearranged")
    write_dataset(folder / "data")
    return folder


def run(folder, objective, out, **changes):
    if not (folder / objective / "tokenizer").exists():
        write_tokenizer(folder / objective / "tokenizer", *OBJECTIVES[objective].special_tokens)
    chosen = {"dataset": folder / "data", "model": SIZES[objective], "objective": {"name": objective}, "steps": 12, **changes}
    return danlu.pretrain(**settings(folder / objective, out, **chosen))


@pytest.fixture(scope="module", params=["span", "prefix", "fim"])
def model(folder, request):
    """A finished run of each objective."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("danlu.train.speed.measure", lambda threads=None, dtype=None: pace())
        return request.param, run(folder, request.param, "model").path


def test_ledgers_count_text_and_targets_apart_and_claim_no_bits_per_byte(model):
    objective, path = model
    lineage = open_artifact(path).lineage
    tokens, reads = lineage.ledger["tokens"], {"span": 24, "prefix": 24, "fim": 20}
    assert lineage.metrics["heldout_loss"] > 0 and "bits_per_byte" not in lineage.metrics
    assert tokens["served"] == tokens["trained_on"] >= 12 * 4 * reads[objective]
    assert tokens["targets"] != tokens["trained_on"]


def test_the_folder_answers_and_says_how_in_its_card(model, capsys):
    from danlu.cli import main

    objective, path = model
    card = (path / "README.md").read_text()
    said = {"span": "text2text-generation", "prefix": "text-generation", "fim": "--suffix"}
    assert said[objective] in card
    words = {"span": ["the <|extra_0|> sat"], "prefix": ["the cat"], "fim": ["the cat ", "--suffix", " mat"]}
    assert main(["generate", str(path), *words[objective], "--max_tokens", "5"]) == 0
    opened = danlu.load(path)
    wanted = (
        opened.infill("the cat ", " mat", max_tokens=5)
        if objective == "fim"
        else opened.generate(*words[objective], max_tokens=5)
    )
    assert capsys.readouterr().out == wanted + "\n"


def test_the_exported_folder_computes_the_same_here_and_in_transformers(model, tmp_path):
    _, path = model
    made = danlu.export(model=path, out=tmp_path / "hf")
    assert made.lineage.metrics["against_source"]["largest_difference"] == 0
    assert made.lineage.metrics["against_transformers"]["relative_difference"] < 1e-4
    before, after = (json.loads((one / "config.json").read_text()) for one in (path, made.path))
    assert before.get("decoder_start_token_id") == after.get("decoder_start_token_id")


def test_an_encoder_decoder_has_no_bits_per_byte_of_a_text_and_no_conversation(model, tmp_path):
    objective, path = model
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 20)
    if objective != "span":
        assert danlu.evaluate(models=[path], text=[text], out=tmp_path / "report").lineage.metrics
        return
    with pytest.raises(BadInput, match="no perplexity and no bits per byte"):
        danlu.evaluate(models=[path], text=[text], out=tmp_path / "report")
    with pytest.raises(BadInput, match="holds no conversation"):
        danlu.chat(model=path)
    with pytest.raises(BadInput, match="what its encoder reads"):
        danlu.load(path).logits([[1, 2]])
    assert danlu.load(path).logits([[1, 2]], source=[[5, 6, 7]]).shape[:2] == torch.Size([1, 2])


@pytest.mark.parametrize("objective", ["span", "fim"])
def test_a_run_that_stopped_goes_on_to_the_same_bits(folder, objective, monkeypatch):
    calm, plain = run(folder, objective, "calm"), Progress.after_step

    def stop_after_five(self, run, facts):
        run.stop.asked = run.stop.asked or facts.step == 5
        plain(self, run, facts)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="step 5 of 12"):
        patch.setattr(Progress, "after_step", stop_after_five)
        run(folder, objective, "stopped")
    again = run(folder, objective, "stopped")
    assert sha256(again.path / "model.safetensors") == sha256(calm.path / "model.safetensors")


def test_an_objective_for_another_kind_of_model_is_refused(folder):
    with pytest.raises(BadSettings, match=r"span trains a Seq2SeqLM.*bart, marian, t5"):
        run(folder, "span", "wrong", model={"name": "qwen3"})
