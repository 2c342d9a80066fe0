"""Laws of every family on the shelf; a new file is enrolled by existing."""

import pytest
import torch

from danlu.models import MODELS
from danlu.models.base import CausalLM, Seq2SeqLM
from danlu.models.weights import load_model, save_model
from danlu.nn.state import RecurrentState

FAMILIES = MODELS.names()
CAUSAL = [name for name in FAMILIES if issubclass(MODELS[name], CausalLM)]
TRAINED = [name for name in FAMILIES if not MODELS[name].counted]


def tiny(family):
    """A tiny model with every parameter away from zero, one and its neighbours."""
    model = MODELS[family].tiny().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def ids(rows, length, seed=0):
    return torch.randint(31, (rows, length), generator=torch.Generator().manual_seed(seed))


def source(model, tokens):
    """What a model needs to read tokens beside themselves: an encoder-decoder its source."""
    return {"source_BS": ids(len(tokens), 5, seed=1)} if isinstance(model, Seq2SeqLM) else {}


def test_every_family_is_found_by_its_file():
    assert {"gpt2", "llama", "qwen3"} <= set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes(family):
    model = tiny(family)
    encoded = {"source_BSD": model.encode(source(model, ids(2, 7))["source_BS"])} if isinstance(model, Seq2SeqLM) else {}
    assert model.hidden(ids(2, 7), **encoded).shape == (2, 7, model.config.width)
    assert model(ids(2, 7), **source(model, ids(2, 7))).shape == (2, 7, 31)
    assert model.vocab_size == 31
    if not model.counted:
        assert model.output_weight.shape == (31, model.config.width)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("steps", [[1] * 11, [3, 1, 5, 2], [11]])
def test_decoding_in_any_steps_equals_all_at_once(family, steps):
    model, tokens = tiny(family), ids(2, 11)
    state = model.new_state(batch=2, capacity=4)  # grows on the way
    stepwise = torch.cat([model(part, state=state) for part in tokens.split(steps, dim=1)], dim=1)
    torch.testing.assert_close(stepwise, model(tokens), rtol=1e-4, atol=1e-5)
    assert state.length == 11


@pytest.mark.parametrize("family", CAUSAL)
def test_a_cropped_and_reordered_state_goes_on_as_if_nothing_else_had_been(family):
    model, tokens = tiny(family), ids(3, 9)
    state = model.new_state(batch=3, capacity=16)
    recurrent = any(isinstance(layer, RecurrentState) for layer in state.layers)
    model(tokens[:, :5] if recurrent else tokens, state=state)
    if recurrent:
        with pytest.raises(ValueError, match="cannot go back to 3 of 5"):
            state.crop(3)
    state.crop(5)
    state.reorder(torch.tensor([2, 0, 0]))
    rows = tokens[[2, 0, 0]]
    rest = ids(3, 4, seed=5)
    torch.testing.assert_close(model(rest, state=state), model(torch.cat([rows[:, :5], rest], 1))[:, 5:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", CAUSAL)
def test_the_future_changes_nothing(family):
    model, tokens = tiny(family), ids(2, 11)
    other = tokens.clone()
    other[:, 7:] = ids(2, 4, seed=9)
    assert not torch.equal(tokens, other)
    torch.testing.assert_close(model(tokens)[:, :7], model(other)[:, :7], rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", CAUSAL)
def test_packed_documents_equal_each_alone(family):
    """Rows of one, two and four documents together, so that every path is taken."""
    model, tokens = tiny(family), ids(3, 12)
    lengths = [[12], [5, 7], [1, 4, 4, 3]]
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(row)) * 2, torch.tensor(row)) for row in lengths])
    alone = torch.stack([
        torch.cat([model(part[None])[0] for part in row.split(parts)]) for row, parts in zip(tokens, lengths, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(model(tokens, documents_BT=documents.int()), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [name for name in CAUSAL if MODELS[name].long_rows])
def test_documents_end_to_end_in_one_row_longer_than_the_context_equal_each_alone(family):
    model, tokens, lengths = tiny(family), ids(1, 150), [40, 9, 60, 3, 38]
    documents = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths))[None].int()
    assert model.config.context < 150
    alone = torch.cat([model(part[None])[0] for part in tokens[0].split(lengths)])
    torch.testing.assert_close(model(tokens, documents_BT=documents)[0], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_document_does_not_leak_into_the_next(family):
    model, tokens = tiny(family), ids(2, 12)
    documents = torch.tensor([[0] * 5 + [1] * 7, [4] * 12])
    other = tokens.clone()
    other[0, :5] = (other[0, :5] + 1) % 31
    before, after = (model(part, documents_BT=documents) for part in (tokens, other))
    rounding = 2e-6 if hasattr(model, "mixtures") else 0  # how an expert's product rounds depends on how many tokens it gets
    torch.testing.assert_close(before[0, 5:], after[0, 5:], rtol=0, atol=rounding)
    torch.testing.assert_close(before[1], after[1], rtol=0, atol=rounding)
    assert (before[0, :5] - after[0, :5]).abs().max() > 1e-3


@pytest.mark.parametrize("family", [name for name in CAUSAL if name in TRAINED])
def test_no_gradient_flows_from_a_documents_loss_to_another_documents_tokens(family):
    model, documents = tiny(family), torch.tensor([[0] * 5 + [1] * 7])
    fresh = torch.tensor([[1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16, 17]])  # no token in both documents
    model.hidden(fresh, documents_BT=documents)[0, 5:].square().sum().backward()
    moved = model.embedding.grad.abs().sum(1) > 0
    assert not moved[1:6].any() and moved[11:18].all()


@pytest.mark.parametrize("family", CAUSAL)
def test_documents_and_a_state_together_are_refused(family):
    model = tiny(family)
    state = model.new_state(batch=2, capacity=8)
    model(ids(2, 3), state=state)
    with pytest.raises(ValueError, match="not both"):
        model(ids(2, 3), documents_BT=torch.tensor([[0, 0, 1]] * 2), state=state)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_loads_with_the_same_config_and_logits(family, tmp_path):
    model = tiny(family)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    assert again.config.to_hf() == model.config.to_hf()
    more = source(model, ids(2, 7))
    assert torch.equal(again(ids(2, 7), **more), model(ids(2, 7), **more))


@pytest.mark.parametrize("family", FAMILIES)
def test_first_values_depend_on_the_seed_alone(family):
    torch.manual_seed(1)
    first = MODELS.build(MODELS[family].tiny().config, 5)
    torch.manual_seed(2)
    second, third = MODELS.build(first.config, 5), MODELS.build(first.config, 6)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    drawn = [pair for pair in zip(first.parameters(), third.parameters(), strict=True) if (pair[0] != pair[0][:1]).any()]
    other = [torch.equal(a, b) for a, b in drawn if a.dim() > 1]
    assert all(same) and not any(other)


@pytest.mark.parametrize("family", FAMILIES)
def test_first_values_do_not_touch_the_global_stream(family):
    torch.manual_seed(4)
    wanted = torch.rand(3)
    torch.manual_seed(4)
    MODELS[family].tiny()
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("family", TRAINED)
def test_every_parameter_learns(family):
    model = tiny(family)
    model(ids(2, 7), **source(model, ids(2, 7))).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()] == []


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(TRAINED)))
def test_a_counted_family_has_nothing_to_learn_and_probabilities_for_logits(family):
    model = tiny(family)
    assert list(model.parameters()) == []
    torch.testing.assert_close(model(ids(2, 7)).exp().sum(-1), torch.ones(2, 7))


@pytest.mark.parametrize("family", TRAINED)
def test_matmul_parameters_leave_out_only_look_up_tables(family):
    model = tiny(family)
    matrices = sum(part.numel() for part in model.parameters() if part.dim() > 1)
    assert 0 < model.matmul_parameters() <= matrices
    assert model.flops_per_token(8) >= 6 * model.matmul_parameters()
