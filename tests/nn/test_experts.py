"""Grouped experts compute what each token alone would get, gradients included, whatever the routing."""

import pytest
import torch

from danlu.nn import kernels
from danlu.nn.experts import Experts

ROUTINGS = {
    "even": [[0, 3], [2, 1], [4, 0], [3, 2], [1, 4], [0, 2], [3, 1]],
    "two experts idle": [[0, 3], [3, 0], [4, 0], [3, 4], [0, 4], [0, 3], [3, 4]],
    "crowded": [[3, 0]] * 7,
    "one token": [[4, 1]],
    "no token": [],
}


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def path(request, monkeypatch):
    """Every law holds with the kernels and on a machine that has none."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "library", lambda dtype: None)
    elif kernels.library(torch.float32) is None:
        pytest.skip("no C compiler on this machine")


def made(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def both(routing, width, inner, dtype):
    """Output and gradients (stream, shares, both weights) by the grouped way and by the definition."""
    experts = Experts(5, width, inner)
    expert_NK = torch.tensor(ROUTINGS[routing], dtype=torch.int64).view(-1, 2)
    results = []
    for way in (experts, experts.plain):
        for seed, parameter in enumerate(experts.parameters()):
            parameter.data, parameter.grad = made(*parameter.shape, seed=seed) / 3, None
        x_ND = made(len(expert_NK), width, seed=7).to(dtype).requires_grad_()
        share_NK = made(len(expert_NK), 2, seed=8).sigmoid().requires_grad_()
        y_ND = way(x_ND, expert_NK, share_NK)
        (y_ND.float() * torch.linspace(-1, 1, y_ND.numel()).view(y_ND.shape)).sum().backward()
        results.append([y_ND.detach(), x_ND.grad, share_NK.grad, *(parameter.grad for parameter in experts.parameters())])
    return results


@pytest.mark.parametrize("sizes", [(8, 12), (7, 11)], ids=["aligned", "odd"])
@pytest.mark.parametrize("routing", [name for name in ROUTINGS if name != "no token"])
def test_grouped_experts_equal_one_token_at_a_time(routing, sizes):
    for fast, plain in zip(*both(routing, *sizes, torch.float32), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(8, 24), (7, 11)], ids=["aligned", "odd"])
def test_short_products_round_and_keep_wide_gradients(sizes):
    for fast, plain in zip(*both("even", *sizes, torch.bfloat16), strict=True):
        torch.testing.assert_close(fast, plain, rtol=0.1, atol=0.1)
        assert fast.dtype == plain.dtype


def test_an_idle_expert_has_a_gradient_of_zeros():
    """Also one that reads what was in memory before would be caught: the memory is made dirty first."""
    for _ in range(3):
        torch.full((5, 24, 8), 9.0)
        fast, _ = both("two experts idle", 8, 12, torch.float32)
        for grad in fast[-2:]:
            assert not grad[[1, 2]].any() and all(part.any() for part in grad[[0, 3, 4]])


def test_no_token_at_all():
    experts = Experts(5, 8, 12)
    for parameter in experts.parameters():
        parameter.data = made(*parameter.shape, seed=1)
    x_ND = torch.zeros(0, 8, requires_grad=True)
    y_ND = experts(x_ND, torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 2))
    assert y_ND.shape == (0, 8)
    y_ND.sum().backward()
    assert not any(parameter.grad.any() for parameter in experts.parameters())


def test_a_second_backward_pass_is_an_error():
    experts = Experts(3, 8, 12)
    for parameter in experts.parameters():
        parameter.data = made(*parameter.shape, seed=1)
    y = experts(made(2, 8, seed=0), torch.tensor([[0, 1], [2, 1]]), torch.ones(2, 2)).sum()
    y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
