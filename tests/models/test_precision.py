"""Mixed precision rounds the products and nothing else."""

import pytest
import torch

from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.models.precision import mixed
from danlu.nn.state import LayerState

FAMILIES = [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM) and not MODELS[name].counted]


def loss(model):
    ids = torch.randint(31, (3, 11), generator=torch.Generator().manual_seed(0))
    return model.cross_entropy_sum(model.hidden(ids).flatten(0, 1), ids.flatten())


@pytest.mark.parametrize("family", FAMILIES)
def test_short_products_stay_close_and_gradients_stay_wide(family):
    model = MODELS[family].tiny(initializer_range=0.05)
    exact = loss(model)
    with mixed(model, torch.bfloat16):
        rounded = loss(model)
        assert model.hidden(torch.zeros(1, 2, dtype=torch.int64)).dtype == torch.bfloat16
        state = model.new_state(1, 4)
        kept = {part.dtype for layer in state.layers if isinstance(layer, LayerState) for part in layer.tensors().values()}
        assert kept <= {torch.bfloat16}  # recurrences stay in float32
        model(torch.zeros(1, 2, dtype=torch.int64), state=state)
        rounded.backward()
    assert rounded.item() != exact.item()
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=0.0)
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
    short = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    loss(model).backward()
    for name, parameter in model.named_parameters():
        likeness = torch.nn.functional.cosine_similarity(short[name].flatten(), parameter.grad.flatten(), dim=0)
        assert likeness > 0.98 or parameter.grad.abs().max() < 1e-3, name


@pytest.mark.parametrize("family", FAMILIES)
def test_afterwards_all_is_as_before(family):
    model = MODELS[family].tiny()
    exact = loss(model)
    with pytest.raises(KeyError), mixed(model, torch.bfloat16):
        raise KeyError
    assert torch.equal(loss(model), exact)
    with mixed(model, None):
        assert torch.equal(loss(model), exact)
