"""`danlu compress`: a smaller model that others read, and a receipt that is right or no model at all."""

import json

import pytest
import torch
from tests.stages.small_pretrain import write_dataset
from tests.tiny import tiny_model, tiny_tokenizer, write_tiny

from danlu.cli import main
from danlu.compress import QUANTISERS
from danlu.core.artifact import open_artifact, publish
from danlu.core.settings import Settings
from danlu.engine.model import load

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
         "max_position_embeddings": 128}  # fmt: skip
WORDS = "The furnace keeps what the fire cannot take. 丹炉之中，火候为先。\n" * 40


@pytest.fixture
def model(tmp_path):
    tiny_model(tmp_path / "model", "llama", **SIZES)
    (tmp_path / "text.txt").write_text(WORDS)
    return tmp_path / "model"


def compress(model, method, *more, out=None):
    out = out or model.parent / method
    words = ["compress", str(model), "-o", str(out), "--method.name", method, "--text", str(model.parent / "text.txt"), "--quiet"]
    return main([*words, "--tokens", "700", *more])


@pytest.mark.parametrize("method", QUANTISERS.names())
def test_the_folder_is_smaller_whole_and_traced(model, method):
    more = ["--method.group", "32"] if method == "int4" else []
    assert compress(model, method, *more) == 0
    artefact = open_artifact(model.parent / method, "model", verify=True)
    assert [one.role for one in artefact.lineage.inputs] == ["model", "text"]
    assert artefact.lineage.inputs[0].id == open_artifact(model).id
    assert artefact.lineage.licences == ("CC0-1.0",)
    receipt = json.loads((artefact.path / "receipt.json").read_text())
    assert receipt == artefact.lineage.metrics
    assert receipt["weight_bytes_after"] < receipt["weight_bytes_before"] * {"bf16": 0.55, "int8": 0.45, "int4": 0.38}[method]
    assert receipt["held_out"]["tokens"] > 600 and receipt["held_out"]["divergence"]["value"] > 0
    assert receipt["tokens_per_s"]["after"]["median"] > 0
    assert "Receipt of compression" in (artefact.path / "README.md").read_text()
    assert main(["inspect", str(artefact.path), "--verify"]) == 0


@pytest.mark.parametrize("method", QUANTISERS.names())
def test_transformers_reads_the_folder_and_computes_the_same(model, method):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("compressed_tensors")
    more = ["--method.group", "32"] if method == "int4" else []
    assert compress(model, method, *more) == 0
    receipt = json.loads((model.parent / method / "receipt.json").read_text())
    assert receipt["against_transformers"]["relative_difference"] < 1e-4
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model.parent / method, dtype=torch.float32).eval()
    ids = torch.arange(40)[None] * 5 % 250
    with torch.inference_mode():
        logits = theirs(ids).logits
    torch.testing.assert_close(load(model.parent / method, device="cpu").logits(ids), logits, rtol=1e-4, atol=1e-4)


def test_the_receipts_perplexity_is_transformers_own_over_the_same_windows(model):
    """The whole figure, recomputed from the written folder with none of our code but the tokenizer."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("compressed_tensors")
    assert compress(model, "int8") == 0
    folder = model.parent / "int8"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = json.loads((folder / "receipt.json").read_text())["held_out"]
    ids = tokenizer(WORDS, add_special_tokens=False)["input_ids"][: found["tokens"]]
    line, done, nats = torch.tensor([tokenizer.bos_token_id, *ids]), 0, 0.0
    while done < len(ids):
        end = min(done + (64 if done else 128), len(ids))
        start = max(0, end - 128)
        with torch.inference_mode():
            logits = theirs(line[None, start:end]).logits[0, done - start :].double()
        nats += torch.nn.functional.cross_entropy(logits, line[done + 1 : end + 1], reduction="sum").item()
        done = end
    assert found["perplexity_after"] == pytest.approx(torch.tensor(nats / len(ids)).exp().item(), rel=1e-4)


def test_four_bits_cost_more_than_eight_and_say_so(model):
    assert compress(model, "int8") == compress(model, "int4", "--method.group", "32") == 0
    eight, four = (json.loads((model.parent / name / "receipt.json").read_text()) for name in ("int8", "int4"))
    assert eight["held_out"]["divergence"]["value"] < four["held_out"]["divergence"]["value"] / 10
    assert eight["held_out"]["top1_agreement"]["value"] > four["held_out"]["top1_agreement"]["value"]
    assert (eight["bits_per_packed_weight"], four["bits_per_packed_weight"]) == (pytest.approx(8.24, abs=0.1), 4.5)
    assert eight["packed"] == four["packed"] == 14


def test_the_held_out_part_of_its_own_data_is_found(tmp_path):
    data = write_dataset(tmp_path / "data")
    inputs = [open_artifact(data).as_input("dataset")]
    with publish(tmp_path / "model", kind="model", stage="pretrain", settings=Settings(), inputs=inputs) as draft:
        write_tiny(draft.path, "llama", **SIZES)
    words = ["compress", str(tmp_path / "model"), "-o", str(tmp_path / "small"), "--method", "int8", "--tokens", "300", "--quiet"]
    assert main(words) == 0
    made = open_artifact(tmp_path / "small").lineage
    assert [(one.role, one.id) for one in made.inputs][1] == ("held-out text", open_artifact(data).id)
    assert made.metrics["held_out"]["tokens"] >= 250


def test_without_text_there_is_no_model(model, capsys):
    assert main(["compress", str(model), "-o", str(model.parent / "out")]) == 2
    assert "a smaller model without a receipt is a guess" in capsys.readouterr().err
    assert not (model.parent / "out").exists()


def test_a_receipt_that_fails_leaves_nothing(model, monkeypatch):
    def fail(*_):
        raise RuntimeError("the measurement broke")

    monkeypatch.setattr("danlu.evaluate.receipt.changes", fail)
    with pytest.raises(RuntimeError):
        compress(model, "int8")
    assert [path.name for path in model.parent.iterdir() if "int8" in path.name] == []


def test_bad_inputs_are_refused_with_what_to_do(model, tmp_path, capsys):
    assert compress(model, "int8") == 0
    assert compress(tmp_path / "int8", "int4", "--method.group", "32") == 1
    assert "is in small integers already" in capsys.readouterr().err
    assert compress(model, "int8") == 2
    assert "exists and is a finished artefact" in capsys.readouterr().err
    assert compress(model, "int5") == 2
    assert "no quantiser called 'int5'. Did you mean int" in capsys.readouterr().err
    assert compress(model, "int4", "--method.group", "7") == 2
    assert "method.group" in capsys.readouterr().err
    assert compress(model, "int4", "--method.group", "40") == 1
    assert "--method.group 64 or 32" in capsys.readouterr().err.replace("\n", " ")
    write_tiny(tmp_path / "gpt2", "gpt2")
    assert compress(tmp_path / "gpt2", "int8", out=tmp_path / "out") == 1
    assert "--method.name bf16, which halves any model" in capsys.readouterr().err.replace("\n", " ")
    assert compress(tmp_path / "gpt2", "bf16", out=tmp_path / "gpt2-16") == 0
    for family in ("bert", "t5"):
        write_tiny(tmp_path / family, family)
        assert compress(tmp_path / family, "int8", out=tmp_path / "out") == 1
        assert "does not write a text on" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_model_with_a_head_is_refused(tmp_path, capsys):
    from danlu.engine.heads import save_headed
    from danlu.models import MODELS
    from danlu.models.heads import HeadConfig, attach

    tokenizer = tiny_tokenizer()
    body = MODELS["qwen3"].tiny(vocab_size=tokenizer.vocab_size)
    save_headed(attach(body, HeadConfig(task="embed", pooling="mean"), seed=4), tokenizer, tmp_path / "head")
    (tmp_path / "text.txt").write_text(WORDS)
    assert compress(tmp_path / "head", "int8", out=tmp_path / "out") == 1
    assert "has a head for embed" in capsys.readouterr().err


def test_matrices_that_groups_do_not_divide_stay_whole_and_are_named(tmp_path, capsys):
    tiny_model(tmp_path / "model", "llama", **{**SIZES, "head_dim": 10})
    (tmp_path / "text.txt").write_text(WORDS)
    words = ["compress", str(tmp_path / "model"), "-o", str(tmp_path / "out"), "--method.name", "int4", "--method.group", "32"]
    assert main([*words, "--text", str(tmp_path / "text.txt"), "--tokens", "300"]) == 0
    assert "do not divide the inputs of 2 matrices" in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert "model.layers.1.self_attn.o_proj.weight" in found["whole"]


def test_what_reads_prompts_both_ways_still_does(tmp_path):
    model = tiny_model(tmp_path / "model", "llama", **SIZES)
    record = json.loads((model.path / "lineage.json").read_text())
    record["settings"]["objective"] = {"name": "prefix"}
    (model.path / "lineage.json").write_text(json.dumps(record))
    (tmp_path / "text.txt").write_text(WORDS)
    assert compress(model.path, "int8") == 0
    assert load(tmp_path / "int8", device="cpu").both_ways
    receipt = json.loads((tmp_path / "int8" / "receipt.json").read_text())
    assert receipt["held_out_as_served"] == receipt["held_out"]  # no figure may come from seeing what is to be foreseen


def test_where_transformers_does_not_read_the_form_the_receipt_says_so(tmp_path, capsys):
    pytest.importorskip("compressed_tensors")
    tiny_model(tmp_path / "model", "mamba")
    (tmp_path / "text.txt").write_text(WORDS)
    words = ["compress", str(tmp_path / "model"), "-o", str(tmp_path / "out"), "--text", str(tmp_path / "text.txt")]
    assert main([*words, "--tokens", "256"]) == 0
    assert "transformers does not read this form of mamba" in capsys.readouterr().err
    assert "transformers_refuses" in json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert load(tmp_path / "out", device="cpu").generate("a", max_tokens=2) is not None


@pytest.mark.parametrize("method", ["int8", "int4"])
def test_it_is_served_from_the_codes_on_disk(model, method):
    """The native runner multiplies with them as they are; a second rounding would not find the same."""
    from danlu.compress.speed import runner_of
    from danlu.engine.runners import native

    if native.unfit(load(model, device="cpu")) is not None:
        pytest.skip("no C compiler")
    assert compress(model, method, *(["--method.group", "32"] if method == "int4" else [])) == 0
    small = load(model.parent / method, device="cpu")
    runner = runner_of(small)
    assert f"{method} weights" in runner.kernel
    receipt = json.loads((model.parent / method / "receipt.json").read_text())
    assert f"{method} weights" in receipt["tokens_per_s"]["after"]["kernel"]
    as_served, plain = (receipt[name]["divergence"]["value"] for name in ("held_out_as_served", "held_out"))
    assert 0.7 * plain < as_served < 5 * plain  # what meets the weights is rounded as well
    matrix = runner._layout._layers[0].down
    found = torch.empty(matrix.inputs)
    native.matrix.clib().unpack_row(native.ctypes.byref(matrix), native.ctypes.c_int64(3), native.matrix.address(found))
    torch.testing.assert_close(found, small.model.model.layers[0].mlp.down_proj.weight[3].detach(), rtol=0, atol=1e-7)


def test_training_does_not_go_on_from_small_integers(model, capsys):
    assert compress(model, "int8") == 0
    write_dataset(model.parent / "data")
    words = ["pretrain", str(model.parent / "data"), "--init", str(model.parent / "int8"), "-o", str(model.parent / "more")]
    assert main([*words, "--steps", "1"]) == 1
    assert "which gradients cannot move" in capsys.readouterr().err
    assert main(["export", str(model.parent / "int8"), "-o", str(model.parent / "back"), "--quiet"]) == 0  # wide again
    ids = torch.arange(20)[None]
    one, two = (load(model.parent / name, device="cpu").logits(ids) for name in ("int8", "back"))
    assert torch.equal(one, two)
