"""Adapters on every family: nothing changes at first, all of it learns and nothing else does, merging changes no answer."""

import copy

import pytest
import torch
from tests.models.adapters.moved import gap, ids, logits, moved

from danlu.core.errors import BadSettings, UnsupportedModel
from danlu.models import MODELS
from danlu.models.adapters import ADAPTERS
from danlu.models.adapters.base import adapter_state, attach, detach, disabled, is_adapted, merge, trainable
from danlu.models.adapters.held import hold_small, holding
from danlu.models.base import CausalLM, Seq2SeqLM
from danlu.models.heads import HeadConfig
from danlu.models.heads import attach as with_head
from danlu.models.weights import load_model, save_model
from danlu.nn.linear import Linear
from danlu.nn.small_frozen import SmallFrozen

FAMILIES = [name for name in MODELS.names() if not MODELS[name].counted and name != "lstm"]
SOFT = ["llama", "qwen3", "gpt2", "gpt_neox", "bloom"]


def settings(kind, **more):
    return ADAPTERS[kind].Config(name=kind, **more)


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_of_weights_begins_as_nothing_learns_alone_and_merges_into_the_same(family, kind):
    model, text = MODELS[family].tiny(), ids()
    before, base = logits(model, text).detach(), copy.deepcopy(model.state_dict())
    attach(model, settings(kind, rank=3), seed=1)
    assert gap(logits(model, text), before) < 1e-5
    with torch.no_grad():
        for parameter in model.adapter.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    after = logits(model, text)
    assert gap(after, before) > 1e-4 or family in ("rwkv", "rwkv7")  # their writers begin at zero
    after.square().sum().backward()
    assert [name for name, part in trainable(model) if part.grad is None] == []
    assert {name for name, part in model.named_parameters() if part.grad is not None} == {name for name, _ in trainable(model)}
    assert all(name.startswith("adapter.") for name in adapter_state(model))
    if isinstance(model, CausalLM) and not isinstance(model, Seq2SeqLM):
        state = model.new_state(2, 8)
        stepwise = torch.cat([model(token, state=state) for token in text.split(1, dim=1)], dim=1)
        assert gap(stepwise, after) < 1e-4
    with disabled(model):
        assert gap(logits(model, text), before) < 1e-6  # a frozen bias of scores takes another kernel
    assert all(torch.equal(tensor, base[name]) for name, tensor in model.state_dict().items() if not name.startswith("adapter."))
    merge(model)
    assert not is_adapted(model) and gap(logits(model, text), after) < 1e-4
    assert model.state_dict().keys() == base.keys()


def test_a_family_without_matrices_in_blocks_says_so():
    with pytest.raises(UnsupportedModel, match="no linear layers"):
        attach(MODELS["lstm"].tiny(), settings("lora"))


def test_first_values_depend_on_seed_and_name_alone():
    whole, few = (MODELS["llama"].tiny() for _ in range(2))
    attach(whole, settings("lora"), seed=5)
    attach(few, settings("lora", targets=["down_proj"]), seed=5)
    mine, theirs = adapter_state(few), adapter_state(whole)
    assert len(mine) == 4 and all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    other = MODELS["llama"].tiny()
    attach(other, settings("lora", targets=["down_proj"]), seed=6)
    assert not any(torch.equal(tensor, mine[name]) for name, tensor in adapter_state(other).items() if name.endswith("_A"))


def test_targets_ranks_and_alphas_go_by_the_ends_of_names_or_globs():
    model = MODELS["llama"].tiny()
    config = settings("lora", rank=4, alpha=8, targets=["q_proj", "model.layers.1.mlp.*"], ranks={"up_proj": 2},
                      alphas={"layers.1.mlp.up_proj": 6.0})  # fmt: skip
    parts = attach(model, config).parts
    assert sorted(parts) == [
        "model.layers.0.self_attn.q_proj", *(f"model.layers.1.mlp.{name}_proj" for name in ("down", "gate", "up")),
        "model.layers.1.self_attn.q_proj",
    ]  # fmt: skip
    up = parts["model.layers.1.mlp.up_proj"]
    assert up.lora_A.shape == (2, 24) and up.lora_B.shape == (40, 2) and up.scale == 3.0
    assert parts["model.layers.0.self_attn.q_proj"].scale == 2.0
    stable = attach(MODELS["llama"].tiny(), settings("lora", rank=4, alpha=8, rslora=True))
    assert {part.scale for part in stable.parts.values()} == {4.0}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"targets": ["q_prj"]}, r"targets q_prj.*Did you mean q_proj"),
        ({"ranks": {"up": 2}}, r"ranks up: no linear layer of llama"),
        ({"whole": ["norms"]}, r"whole norms: no module.*norm"),
        ({"targets": ["lm_head"]}, r"--adapter.whole lm_head"),
    ],
)
def test_names_that_fit_nothing_are_answered_with_near_ones(more, said):
    model = MODELS["llama"].tiny()
    with pytest.raises(BadSettings, match=said):
        attach(model, settings("lora", **more))
    assert not is_adapted(model)


@pytest.mark.parametrize("how", ["disabled", "detach"])
def test_what_learns_in_full_goes_back_bit_by_bit(how):
    model, text = MODELS["llama"].tiny(tie_word_embeddings=False), ids()
    before = model(text).detach()
    moved(model, whole=["norm", "lm_head"])
    assert {name for name, _ in trainable(model) if not name.startswith("adapter.")} == {"model.norm.weight", "lm_head.weight"}
    with torch.no_grad():
        for _, parameter in trainable(model):
            parameter += 0.1
    after = model(text).detach()
    if how == "detach":
        detach(model)
        assert torch.equal(model(text), before) and not hasattr(model, "adapter")
        return
    with disabled(model):
        assert torch.equal(model(text), before)
    assert torch.equal(model(text), after)


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5"])
def test_a_base_in_few_bits_computes_and_teaches_as_the_float_matrices_that_its_codes_mean(family, form):
    small, text = moved(MODELS[family].tiny(), base=form, group=8), ids()
    held = {name: layer for name, layer in small.named_modules() if isinstance(layer, SmallFrozen)}
    assert held and not any(name.endswith("codes") for name in small.state_dict())
    plain = MODELS[family].tiny()
    for name, layer in held.items():
        own = plain.get_submodule(name)
        own.weight.data = (layer.matrix if isinstance(own, Linear) else layer.matrix.t()).contiguous()
    moved(plain)
    mine, theirs = (logits(one, text) for one in (small, plain))
    assert gap(mine, theirs) < 1e-6
    mine.square().sum().backward()
    theirs.square().sum().backward()
    wanted = dict(trainable(plain))
    for name, parameter in trainable(small):
        assert gap(parameter.grad, wanted[name].grad) < 1e-4, name
    merge(small)
    assert gap(logits(small, text), theirs) < 1e-5
    assert small.state_dict().keys() == MODELS[family].tiny().state_dict().keys()


def test_codes_of_a_folder_are_taken_as_they_are():
    from danlu.nn.quant import quantise_int4

    model = MODELS["llama"].tiny()
    name = "model.layers.0.mlp.up_proj"
    given = quantise_int4(torch.randn(40, 24), group=8)
    attach(model, settings("lora", base="int4", group=24), codes={f"{name}.weight": given})
    found = model.get_submodule(name).small
    assert torch.equal(found.codes, given.codes) and found.group == 8
    assert model.get_submodule("model.layers.1.mlp.up_proj").group == 24


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_a_base_is_put_into_codes_while_it_is_read(family, tmp_path):
    save_model(MODELS[family].tiny(), tmp_path)
    read = load_model(tmp_path, placed=holding("int4", 8))
    held = load_model(tmp_path)
    hold_small(held, "int4", 8)
    layers = {name: layer for name, layer in held.named_modules() if isinstance(layer, SmallFrozen)}
    assert layers and {name for name, layer in read.named_modules() if isinstance(layer, SmallFrozen)} == set(layers)
    assert all(torch.equal(read.get_submodule(name).matrix, layer.matrix) for name, layer in layers.items())
    assert torch.equal(logits(read, ids()), logits(held, ids()))
    assert read.matmul_parameters() == MODELS[family].tiny().matmul_parameters()
    assert gap(logits(moved(read, base="int4"), ids()), logits(moved(held, base="int4"), ids())) < 1e-6


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("family", SOFT)
def test_what_stands_before_a_text_stands_before_every_packed_one_and_before_decoding(family, kind):
    model, text = MODELS[family].tiny(), ids(2, 10)
    before = model(text).detach()
    moved(model, kind, spread=0.5, tokens=4)
    after = model(text)
    assert after.shape == before.shape and gap(after, before) > 1e-3
    documents = torch.tensor([[0] * 4 + [1] * 6, [3] * 3 + [4] * 5 + [7] * 2])
    packed = model.hidden(text, documents_BT=documents)
    rows = [list(row.split(sizes)) for row, sizes in zip(text, ([4, 6], [3, 5, 2]), strict=True)]
    alone = [torch.cat([model.hidden(part[None])[0] for part in row]) for row in rows]
    assert gap(packed, torch.stack(alone)) < 1e-5
    state = model.new_state(2, 10)
    stepwise = torch.cat([model(part, state=state) for part in text.split([3, 1, 6], dim=1)], dim=1)
    assert gap(stepwise, after) < 1e-5 and state.length == 14
    after.square().sum().backward()
    ((name, parameter),) = trainable(model)
    assert name == "adapter.prompt_embeddings" and len(parameter) == 4 and parameter.grad.abs().amin(1).min() >= 0
    assert (parameter.grad.abs().sum(1) > 0).all()
    with disabled(model):
        assert torch.equal(model(text), before)
    with pytest.raises(UnsupportedModel, match="cannot be merged"):
        merge(model)


@pytest.mark.parametrize("family", ["mamba", "bert", "t5", "gemma3", "deepseek_v3", "sprint"])
def test_nothing_stands_before_the_text_of_a_family_that_remembers_otherwise(family):
    with pytest.raises(UnsupportedModel, match="Use lora"):
        attach(MODELS[family].tiny(), settings("prefix"))


def test_recomputing_blocks_changes_no_gradient_of_a_prefix():
    from danlu.train.parallel import save_activations

    grads = []
    for again in (False, True):
        model = moved(MODELS["llama"].tiny(), "prefix", tokens=3)
        if again:
            save_activations(model)
        model(ids()).square().sum().backward()
        grads.append(model.adapter.prompt_embeddings.grad)
    assert gap(grads[1], grads[0]) < 1e-6


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_new_tokens_learn_alone(tied):
    model, text = MODELS["llama"].tiny(tie_word_embeddings=tied), ids()
    before = model(text).detach()
    attach(model, settings("lora"), new_rows=[29, 30])
    assert torch.equal(model(text), before)
    full = MODELS["llama"].tiny(tie_word_embeddings=tied)
    loss, wanted = (one.cross_entropy_sum(one.hidden(text).flatten(0, 1), text.flip(1).flatten()) for one in (model, full))
    loss.backward()
    wanted.backward()
    rows = model.adapter.rows
    assert gap(rows.embedding_rows.grad, full.embedding.grad[29:]) < 1e-5
    assert tied == (rows.head_rows is None)
    if not tied:
        assert gap(rows.head_rows.grad, full.lm_head.weight.grad[29:]) < 1e-5
    assert model.embedding.grad is None
    with torch.no_grad():
        rows.embedding_rows += 1.0
    after = model(text).detach()
    assert gap(after, before) > 1e-3
    with disabled(model):
        assert torch.equal(model(text), before)
    merge(model)
    assert gap(model(text), after) < 1e-5


def test_a_tasks_head_learns_beside_the_adapter():
    body = MODELS["bert"].tiny()
    model = with_head(body, HeadConfig(task="classify", labels=["a", "b", "c"]))
    moved(model)
    own = {name for name, _ in trainable(model)}
    assert {name for name in own if not name.startswith("adapter.")} == {name for name, _ in model.named_parameters()
                                                                         if name.startswith("head.")}  # fmt: skip
    assert {name.rpartition(".")[0] for name in own if name.startswith("adapter.")} == {
        f"adapter.on.{name}" for name in model.adapter.parts
    }
    text = ids()
    after = model.scores(model.hidden(text)).detach()
    merge(model)
    assert gap(model.scores(model.hidden(text)), after) < 1e-5


def test_a_model_with_an_adapter_is_not_written_as_if_it_had_none(tmp_path):
    with pytest.raises(ValueError, match="merge"):
        save_model(moved(MODELS["llama"].tiny()), tmp_path)
