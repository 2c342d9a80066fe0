"""A masked model's whole life through the stages: trained, resumed, measured, described and handed on under true names."""

import json
import signal
import subprocess
import sys
import time

import pytest
from tests.stages import small_pretrain
from tests.stages.small_pretrain import flags, pace, settings, write_dataset, write_tokenizer

import danlu
from danlu.cli import main
from danlu.core import log
from danlu.core.errors import BadSettings, TokenizerMismatch
from danlu.core.files import sha256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    write_dataset(folder / "data")
    write_tokenizer(folder / "tokenizer", "<|mask|>")
    return folder


@pytest.fixture(autouse=True)
def known_machine(monkeypatch):
    monkeypatch.setattr("danlu.train.speed.measure", lambda threads=None, dtype=None: pace())


def run(folder, out, **changes):
    return {**settings(folder, out, objective={"name": "masked"}, batch_rows=8, row_tokens=48), **changes}


@pytest.fixture(scope="module")
def model(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("danlu.train.speed.measure", lambda threads=None, dtype=None: pace())
        return danlu.pretrain(**run(folder, "whole", steps=60))


@pytest.fixture(scope="module")
def events(model, folder):
    return list(log.read_events(folder / "whole.run" / "events.jsonl"))


def test_the_default_family_of_the_objective_is_trained_and_transformers_loads_it(model):
    import transformers

    reference, info = transformers.AutoModelForMaskedLM.from_pretrained(model.path, output_loading_info=True)
    assert type(reference).__name__ == "ModernBertForMaskedLM" and not info["missing_keys"] and not info["unexpected_keys"]
    assert transformers.AutoTokenizer.from_pretrained(model.path).mask_token == "<|mask|>"
    assert len(transformers.pipeline("fill-mask", model=str(model.path), device="cpu")("the cat <|mask|>at", top_k=3)) == 3


def test_tokens_read_are_counted_apart_from_targets(model, events):
    ledger, metrics = model.lineage.ledger["tokens"], model.lineage.metrics
    assert ledger["trained_on"] == metrics["tokens"] == 60 * 8 * 48
    assert ledger["served"] == ledger["trained_on"] + ledger["left_out"]
    assert ledger["epochs"] == pytest.approx(ledger["served"] / ledger["learnable"], abs=1e-5)
    assert ledger["targets"] == pytest.approx(0.15 * ledger["trained_on"], rel=0.05)
    assert [event["tokens"] for event in events if event["kind"] == "step"][-1] == ledger["trained_on"]


def test_figures_are_of_masked_tokens_and_no_bits_per_byte_are_claimed(model, events):
    measured = [event for event in events if event["kind"] == "heldout"]
    assert len(measured) == 10 and all(event["unit"] == "masked token" and "bits_per_byte" not in event for event in measured)
    assert all(0 <= event["accuracy"] <= 1 for event in measured) and measured[-1]["loss"] < measured[0]["loss"]
    assert len({event["targets"] for event in measured}) == 1, "the same tokens are hidden each time"
    assert model.lineage.metrics["heldout_loss"] == measured[-1]["loss"] and "bits_per_byte" not in model.lineage.metrics
    assert model.lineage.metrics["accuracy"] == measured[-1]["accuracy"]
    card = (model.path / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "nats per masked token" in card and "cannot write on" in card
    page = (model.path / "report.html").read_text()
    assert "nats per masked token, held out" in page and "of masked tokens named right" in page
    assert "bits per byte, held out" not in page


def test_samples_show_what_was_hidden_and_what_the_model_says(events):
    samples = [event for event in events if event["kind"] == "sample"]
    assert len(samples) == 8
    for sample in samples:
        gaps = sample["prompt"].split("<|mask|>")
        assert len(gaps) > 1 and sample["text"].startswith("\n-> ") and "<|mask|>" not in sample["text"]
        assert sample["text"].removeprefix("\n-> ").startswith(gaps[0])


def test_the_masking_is_recorded_as_it_was(model):
    assert model.lineage.settings["objective"]["rate"] == 0.15
    assert model.lineage.settings["objective"]["han"] in ("words", "bigrams"), "auto is decided at the start"


def test_killed_and_started_again_it_ends_with_the_same_bits(folder):
    words = run(folder, "killed", steps=40, watch={"save": {"every": 6}})
    expected = danlu.pretrain(**{**words, "out": folder / "calm"})
    for last in (False, True):
        process = subprocess.Popen([sys.executable, small_pretrain.__file__, "pretrain", *flags(words)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        if not last:
            while process.poll() is None and not list((folder / "killed.run").glob("checkpoints/step-*12")):
                time.sleep(0.02)
            process.kill()
        _, said = process.communicate(timeout=200)
        assert process.returncode == (0 if last else -signal.SIGKILL), said
    assert "going on after step" in said
    assert sha256(folder / "killed" / "model.safetensors") == sha256(expected.path / "model.safetensors")


def test_bert_and_roberta_train_by_changing_one_setting(folder):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    for family in ("bert", "roberta"):
        made = danlu.pretrain(**run(folder, family, steps=12, model={"name": family, **sizes}))
        assert json.loads((made.path / "config.json").read_text())["model_type"] == family
        assert danlu.load(made.path).fill("the <|mask|>").text.startswith("the ")


def test_a_tokenizer_is_trained_with_the_mask_token(folder):
    made = danlu.pretrain(**{**run(folder, "learned", steps=8), "tokenizer": None, "vocab_size": 300})
    assert danlu.load(made.path).tokenizer.mask_id is not None


def test_families_and_tokenizers_of_the_other_kind_are_refused(folder, tmp_path):
    with pytest.raises(BadSettings, match="modernbert"):
        danlu.pretrain(**run(folder, "wrong", model={"name": "qwen3"}))
    with pytest.raises(BadSettings, match="trains a CausalLM"):
        danlu.pretrain(**run(folder, "wrong", objective={"name": "causal"}, model={"name": "bert"}))
    write_tokenizer(tmp_path / "plain")
    with pytest.raises(TokenizerMismatch, match=r"<\|mask\|>"):
        danlu.pretrain(**run(folder, "wrong", tokenizer=tmp_path / "plain"))


def test_the_folder_goes_on_through_the_other_commands(model, tmp_path, capsys):
    assert main(["generate", str(model.path), "the cat s<|mask|>t", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("the cat s")
    assert main(["export", str(model.path), "-o", str(tmp_path / "hf"), "--to", "hf", "--quiet"]) == 0
    found = json.loads((tmp_path / "hf" / "certificate.json").read_text())
    assert found["against_transformers"]["relative_difference"] < 1e-4 and found["same_tokens_in_transformers"]
    assert main(["inspect", str(tmp_path / "hf"), "--quiet"]) == 0
    assert "masked token" in capsys.readouterr().out
    assert main(["generate", str(tmp_path / "hf"), "the cat", "--quiet"]) == 1
    assert "no gap" in capsys.readouterr().err
