"""PEFT and we read one another's folders, compute the same with them, and take the same gradients."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.models.adapters.moved import gap, ids, logits, moved

from danlu.core.errors import DamagedWeights, NotAnArtifact, UnsupportedModel
from danlu.models import MODELS
from danlu.models.adapters import peft as files
from danlu.models.adapters.base import load_adapter, save_adapter, trainable
from danlu.models.base import MaskedLM, Seq2SeqLM
from danlu.models.heads import HeadConfig, attach
from danlu.models.weights import load_model, save_model

peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

CASES = {
    "lora": ("lora", {"rank": 3, "alpha": 7}),
    "rslora": ("lora", {"rank": 3, "alpha": 2.5, "rslora": True}),
    "dora": ("dora", {"rank": 3, "alpha": 7}),
    "dora, rank-stable": ("dora", {"rank": 2, "rslora": True, "alpha": 3}),
    "few": ("lora", {"rank": 4, "targets": {"llama": ["q_proj", "model.layers.1.mlp.*"], "gpt2": ["c_attn"]}}),
    "patterns": ("lora", {"rank": 4, "ranks": {"llama": {"up_proj": 2}, "gpt2": {"mlp.c_proj": 2}},
                          "alphas": {"llama": {"layers.1.mlp.up_proj": 5}, "gpt2": {"c_fc": 5}}}),
    "whole": ("lora", {"rank": 2, "whole": {"llama": ["norm", "lm_head", "embed_tokens"], "gpt2": ["ln_f"]}}),
    "int8": ("lora", {"rank": 2, "base": "int8"}),
}  # fmt: skip


def told(more, family):
    """Settings with those of one family picked."""
    kind = "gpt2" if family == "gpt2" else "llama"
    return {key: value[kind] if isinstance(value, dict) and kind in value else value for key, value in more.items()}


def theirs(folder, adapter, family, kind=None):
    names = {"t5": "AutoModelForSeq2SeqLM", "bert": "AutoModelForMaskedLM"}
    base = getattr(transformers, kind or names.get(family, "AutoModelForCausalLM")).from_pretrained(folder, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, adapter, is_trainable=True).eval()


def their_logits(model, text, family):
    more = {"decoder_input_ids": text} if family == "t5" else {}
    return model(input_ids=text.flip(1) if family == "t5" else text, **more).logits


def loss_of(found):
    return F.cross_entropy(found[:, :-1].flatten(0, 1), ids()[:, 1:].flatten(), reduction="sum")


def same_gradients(model, reference):
    """Every gradient of ours is that of PEFT's parameter of the same name on disk."""
    found = {name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", ""): part.grad
             for name, part in reference.named_parameters() if part.grad is not None}  # fmt: skip
    mine = {name.removeprefix("adapter.on."): part.grad for name, part in trainable(model)}
    assert len(mine) == len(found)
    largest = max(grad.abs().max() for grad in mine.values())
    for name, grad in mine.items():
        there = next(part for other, part in found.items() if other in (name, f"{name}.weight"))
        assert (grad - there).abs().max() <= 1e-5 * largest, name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_changes_of_weights(family, case, tmp_path):
    kind, more = CASES[case]
    if (family, case) == ("qwen3", "whole"):
        more = {"rank": 2, "whole": ["embed_tokens"]}  # tied with its head, and so they stay
    model = MODELS[family].tiny(**({"tie_word_embeddings": case != "whole"} if family == "llama" else {}))
    save_model(model, tmp_path / "base")
    if case == "int8":  # what PEFT is given is the float matrices that the codes mean
        from danlu.models.adapters.held import hold_small, widen

        hold_small(model, "int8", 64)
        widen(model)
        save_model(model, tmp_path / "meant")
    moved(model := load_model(tmp_path / "base"), kind, **told(more, family))
    save_adapter(model, tmp_path / "ours", tmp_path / "base", "known")
    found = model(ids())
    reference = theirs(tmp_path / ("meant" if case == "int8" else "base"), tmp_path / "ours", family)
    wanted = their_logits(reference, ids(), family)
    assert gap(found, wanted) < 1e-5
    loss_of(found).backward()
    loss_of(wanted).backward()
    if (family, case) != ("qwen3", "whole"):  # there PEFT holds the tied table twice
        same_gradients(model, reference)
    reference.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        again = load_model(tmp_path / ("meant" if (case, folder) == ("int8", "theirs") else "base"))
        load_adapter(again, tmp_path / folder)
        assert gap(again(ids()), found) < 1e-6
    assert files.read_base(tmp_path / "ours")["id"] == "known" and files.base_of(tmp_path / "ours") == tmp_path / "base"


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_encoders_and_encoder_decoders(family, tmp_path):
    save_model(MODELS[family].tiny(), tmp_path / "base")
    model = moved(load_model(tmp_path / "base"), "lora", rank=3)
    assert isinstance(model, MaskedLM | Seq2SeqLM)
    save_adapter(model, tmp_path / "ours", tmp_path / "base")
    reference = theirs(tmp_path / "base", tmp_path / "ours", family)
    found, wanted = logits(model, ids()), their_logits(reference, ids(), family)
    assert gap(found, wanted) < 1e-5
    loss_of(found).backward()
    loss_of(wanted).backward()
    same_gradients(model, reference)
    reference.save_pretrained(tmp_path / "theirs")
    load_adapter(again := load_model(tmp_path / "base"), tmp_path / "theirs")
    assert gap(logits(again, ids()), found) < 1e-6


@pytest.mark.parametrize(("family", "kind"), [("llama", "lora"), ("bert", "lora"), ("llama", "prompt"), ("llama", "prefix")])
def test_a_tasks_head_travels_with_the_adapter(family, kind, tmp_path):
    save_model(MODELS[family].tiny(pad_token_id=0), tmp_path / "base")
    head = HeadConfig(task="classify", labels=["a", "b", "c"])
    model = moved(attach(load_model(tmp_path / "base"), head, seed=4), kind)
    save_adapter(model, tmp_path / "ours", tmp_path / "base")
    text, places = ids(), torch.zeros(2, 7, dtype=torch.bool)
    places[:, 0 if family == "bert" else -1] = True
    text[text == 0] = 1
    found = model.scores(model.pooled(text, None, places))
    base = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    if family == "bert":  # the pooler before the scores is new too, and PEFT looks for it in the base
        base.bert.pooler.dense.load_state_dict(model.head.transform.dense.state_dict())
    reference = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert gap(reference(text, attention_mask=torch.ones_like(text)).logits, found) < 1e-5
    reference.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        again = attach(load_model(tmp_path / "base"), head, seed=9)
        load_adapter(again, tmp_path / folder)
        assert gap(again.scores(again.pooled(text, None, places)), found) < 1e-6


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_what_stands_before_the_text(family, kind, tmp_path):
    save_model(MODELS[family].tiny(), tmp_path / "base")
    model = moved(load_model(tmp_path / "base"), kind, spread=0.5, tokens=4)
    save_adapter(model, tmp_path / "ours", tmp_path / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    reference = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    table = reference.prompt_encoder.default.embedding.weight.requires_grad_(True)
    found, wanted = model(ids()), reference(ids()).logits[:, -7:]
    assert gap(found, wanted) < 1e-5
    loss_of(found).backward()
    loss_of(wanted).backward()
    assert gap(model.adapter.prompt_embeddings.grad, table.grad) < 1e-5
    reference.save_pretrained(tmp_path / "theirs")
    load_adapter(again := load_model(tmp_path / "base"), tmp_path / "theirs")
    assert torch.equal(again(ids()), found)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_new_tokens_are_pefts_trainable_tokens(tied, tmp_path):
    save_model(MODELS["qwen3"].tiny(tie_word_embeddings=tied), tmp_path / "base")
    model = moved(load_model(tmp_path / "base"), new_rows=[3, 29, 30])
    save_adapter(model, tmp_path / "ours", tmp_path / "base")
    reference = theirs(tmp_path / "base", tmp_path / "ours", "qwen3")
    found = model(ids())
    assert gap(their_logits(reference, ids(), "qwen3"), found) < 1e-5
    reference.save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        load_adapter(again := load_model(tmp_path / "base"), tmp_path / folder)
        assert gap(again(ids()), found) < 1e-6


@pytest.fixture
def folder(tmp_path):
    """A base and an adapter, ours."""
    save_model(MODELS["llama"].tiny(), tmp_path / "base")
    save_adapter(moved(load_model(tmp_path / "base"), rank=2, targets=["q_proj"]), tmp_path / "a", tmp_path / "base")
    return tmp_path


def changed(folder, config=(), tensors=None):
    found = json.loads((folder / "a" / files.CONFIG).read_text())
    (folder / "a" / files.CONFIG).write_text(json.dumps({**found, **dict(config)}))
    if tensors:
        save_file(tensors(load_file(folder / "a" / files.WEIGHTS)), folder / "a" / files.WEIGHTS)
    return folder / "a"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"peft_type": "IA3"}, "'IA3'.*'LORA', 'PREFIX_TUNING', 'PROMPT_TUNING'"),
        ({"use_qalora": True}, "use_qalora: True"),
        ({"bias": "all"}, "bias: 'all'"),
        ({"layer_replication": [[0, 2]], "lora_bias": True}, "(?s)layer_replication.*lora_bias"),
        ({"r": 0}, "r: 0"),
        ({"trainable_token_indices": {"embed_tokens": [40]}}, "knows 41 tokens, but the base embeds 31"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(folder, config, said):
    with pytest.raises(UnsupportedModel, match=said):
        load_adapter(load_model(folder / "base"), changed(folder, config))


def test_an_adapter_of_another_base_is_refused_and_leaves_the_model_alone(folder):
    def renamed(tensors):
        return {name.replace("layers.1", "layers.7"): part for name, part in tensors.items()}

    model = load_model(folder / "base")
    before = model(ids())
    with pytest.raises(UnsupportedModel, match="another base"):
        load_adapter(model, changed(folder, tensors=renamed))
    assert torch.equal(model(ids()), before) and not hasattr(model, "adapter")
    wide = MODELS["llama"].tiny(hidden_size=30)
    with pytest.raises(UnsupportedModel, match="another base"):
        load_adapter(wide, folder / "a")


def test_damage_is_told(folder):
    path = folder / "a" / files.WEIGHTS
    whole = load_file(path)
    name = next(iter(whole))
    save_file({**whole, name: whole[name] * torch.nan}, path)
    with pytest.raises(DamagedWeights, match="no numbers"):
        load_adapter(load_model(folder / "base"), folder / "a")
    save_file({key: part for key, part in whole.items() if key != name}, path)
    with pytest.raises(DamagedWeights, match="do not go together"):
        load_adapter(load_model(folder / "base"), folder / "a")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedWeights, match="cannot be read"):
        load_adapter(load_model(folder / "base"), folder / "a")
    path.unlink()
    with pytest.raises(NotAnArtifact, match="safetensors"):
        load_adapter(load_model(folder / "base"), folder / "a")


def test_a_base_that_is_gone_is_missed_by_its_path(folder):
    (folder / "base").rename(folder / "moved")
    with pytest.raises(NotAnArtifact, match=r"(?s)base is not there \(.*base\).*--base FOLDER"):
        files.base_of(folder / "a")
