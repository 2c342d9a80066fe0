"""`danlu export`: the folder loads elsewhere and the certificate is honest."""

import json

import pytest
from tests.tiny import tiny_model, write_tiny

from danlu.cli import main
from danlu.core.artifact import open_artifact
from danlu.engine.model import load
from danlu.evaluate.certificate import PROBE, certify


@pytest.fixture
def source(tmp_path):
    tiny_model(tmp_path / "model", max_position_embeddings=900)
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": [0, 2], "top_k": 7}')
    record = json.loads((tmp_path / "model" / "lineage.json").read_text())
    record["outputs"] = [file for file in record["outputs"] if file["file"] != "generation_config.json"]
    (tmp_path / "model" / "lineage.json").write_text(json.dumps(record))
    return tmp_path / "model"


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2", "bert", "roberta", "modernbert"])
def test_the_folder_loads_in_transformers_with_the_same_logits(tmp_path, family):
    transformers = pytest.importorskip("transformers")
    write_tiny(tmp_path / "model", family)
    assert main(["export", str(tmp_path / "model"), "-o", str(tmp_path / "hf"), "--to", "hf", "--quiet"]) == 0
    found = json.loads((tmp_path / "hf" / "certificate.json").read_text())
    assert found["against_source"]["largest_difference"] == 0
    assert found["against_source"]["top1_agreement"] == 1
    assert found["against_transformers"]["relative_difference"] < 1e-4
    assert found["same_tokens_in_transformers"] and found["same_ends"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert tokenizer("丹炉", add_special_tokens=False)["input_ids"] == load(tmp_path / "model").tokenizer.encode("丹炉")


def test_lineage_licences_card_and_generation_settings_travel(source, tmp_path):
    assert main(["export", str(source), "-o", str(tmp_path / "hf"), "--quiet"]) == 0
    artefact = open_artifact(tmp_path / "hf", "model", verify=True)
    assert artefact.lineage.inputs[0].id == open_artifact(source).id
    assert artefact.lineage.licences == ("CC0-1.0",)
    assert artefact.lineage.metrics["against_source"]["tokens"] > 100
    assert json.loads((artefact.path / "generation_config.json").read_text())["eos_token_id"] == [0, 2]
    assert json.loads((artefact.path / "generation_config.json").read_text())["top_k"] == 7
    assert "Certificate" in (artefact.path / "README.md").read_text()


def test_shorter_weights_are_smaller_and_the_certificate_says_what_they_cost(source, tmp_path):
    for dtype in ("float32", "bfloat16"):
        assert main(["export", str(source), "-o", str(tmp_path / dtype), "--to.dtype", dtype, "--quiet"]) == 0
    long, short = (json.loads((tmp_path / name / "certificate.json").read_text()) for name in ("float32", "bfloat16"))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("float32", "bfloat16")]
    assert sizes[1] < 0.6 * sizes[0]
    assert 0 < short["against_source"]["relative_difference"] < 0.1
    assert long["against_source"]["relative_difference"] == 0
    assert short["against_source"]["divergence"] > 0


def test_without_transformers_the_certificate_says_so(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("danlu.evaluate.certificate.version", lambda name: None)
    assert main(["export", str(source), "-o", str(tmp_path / "hf")]) == 0
    assert "transformers is not installed" in capsys.readouterr().err
    assert "against_transformers" not in json.loads((tmp_path / "hf" / "certificate.json").read_text())


def test_a_copy_that_chooses_otherwise_is_warned_of(source, tmp_path, monkeypatch, capsys):
    from danlu.engine.exporters.hf import HuggingFace

    write_tiny(tmp_path / "other", seed=9)
    monkeypatch.setattr(HuggingFace, "read", lambda self, folder: load(tmp_path / "other"))
    assert main(["export", str(source), "-o", str(tmp_path / "hf")]) == 0
    assert "measure it before use" in capsys.readouterr().err


def test_an_unknown_form_is_refused_with_what_is_known(source, tmp_path, capsys):
    assert main(["export", str(source), "-o", str(tmp_path / "hf"), "--to", "gguff"]) == 2
    assert "no exporter called 'gguff'" in capsys.readouterr().err
    assert main(["export", str(source), "-o", str(tmp_path / "hf"), "--to", "gguf"]) == 2
    assert "Write --to hf: llama.cpp's convert_hf_to_gguf.py" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


def test_a_family_of_our_own_is_refused(tmp_path, capsys):
    from danlu.models import MODELS

    for family in [name for name in MODELS.names() if MODELS[name].Config.hf_type.startswith("danlu_")]:
        write_tiny(tmp_path / family, family)
        assert main(["export", str(tmp_path / family), "-o", str(tmp_path / "hf")]) == 1
        assert "only Danlu computes" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


def test_the_certificate_counts_what_differs():
    import torch

    before = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    after = before.clone()
    after[1] = torch.tensor([0.0, 1.0, 1.5])
    found = certify(before, after, [1, -100])
    assert found.largest_difference == 2.0
    assert found.relative_difference == pytest.approx(2 / 3)
    assert found.top1_agreement == 0.5
    assert found.perplexity_before == found.perplexity_after  # only the logits after the last token moved
    assert found.divergence > 0
    assert len(PROBE.encode()) > 500
