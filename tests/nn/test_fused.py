"""Every compiled pass computes what its plain twin says, gradients included, in both types of activations."""

import copy

import pytest
import torch

from danlu.models import MODELS
from danlu.nn import kernels
from danlu.nn.linear import Linear, project
from danlu.nn.loss import linear_cross_entropy_sum, linear_cross_entropy_sum_plain
from danlu.nn.mlp import swiglu, swiglu_plain
from danlu.nn.norm import rms_norm, rms_norm_plain
from danlu.nn.rope import norm_rotate, norm_rotate_plain, turns

TYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def path(request, monkeypatch):
    """Every law holds with the kernels and on a machine that has none."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "library", lambda dtype: None)
    elif kernels.library(torch.float32) is None:
        pytest.skip("no C compiler on this machine")
    return request.param


def made(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def agree(fast, plain, inputs, dtype=torch.float32):
    """Same values and same gradients of a loss that weighs every output differently."""
    results = []
    for function in (fast, plain):
        leaves = [part.detach().clone().requires_grad_() if isinstance(part, torch.Tensor) else part for part in inputs]
        out = function(*leaves)
        (out.float() * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves if isinstance(leaf, torch.Tensor))])
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("width", [1, 7, 16, 67])
def test_rms_norm(width, dtype):
    agree(
        lambda x, w: rms_norm(x, w, 1e-3, dtype),
        lambda x, w: rms_norm_plain(x, w, 1e-3, dtype),
        [made(2, 5, width), made(width, seed=1)],
        dtype,
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("half", [1, 5, 16])
@pytest.mark.parametrize("shared", [False, True])
def test_norm_rotate(half, normed, shared, dtype):
    places = torch.arange(5) if shared else torch.tensor([[0, 1, 2, 0, 1], [3, 4, 5, 6, 7]])
    rope = turns(places, 2 * half, 100.0)
    inputs = [made(2, 5, 3, 2 * half, dtype=dtype), *([made(2 * half, seed=1)] if normed else [])]
    agree(
        lambda x, w=None: norm_rotate(x, w, 1e-3, *rope),
        lambda x, w=None: norm_rotate_plain(x, w, 1e-3, *rope),
        inputs, dtype,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
def test_swiglu(dtype):
    inputs = [
        made(2, 5, 7, dtype=dtype),
        made(11, 7, seed=1, dtype=dtype),
        made(11, 7, seed=2, dtype=dtype),
        made(7, 11, seed=3, dtype=dtype),
    ]
    agree(swiglu, swiglu_plain, inputs, dtype)


def test_swiglu_survives_extreme_gates():
    gate = torch.tensor([[-1e4, -90.0, -1.0, 0.0, 90.0, 1e4]])
    one = torch.eye(6)
    torch.testing.assert_close(swiglu(gate, one, one, one), swiglu_plain(gate, one, one, one), rtol=1e-5, atol=1e-6)


def test_not_a_number_is_not_hidden():
    x = torch.tensor([[1.0, float("nan"), 2.0]])
    assert rms_norm(x, torch.ones(3), 1e-6).isnan().all()
    assert swiglu(x, torch.eye(3), torch.eye(3), torch.eye(3)).isnan().any()
    assert linear_cross_entropy_sum(x, torch.eye(3), torch.tensor([1])).isnan()


def test_project():
    layers = [Linear(7, size) for size in (3, 5, 2)]
    weights = [made(size, 7, seed=size) for size in (3, 5, 2)]

    def fast(x, *found):
        for layer, weight in zip(layers, found, strict=True):
            layer.weight = torch.nn.Parameter(weight.detach())
        out = torch.cat(project(x, *layers), dim=-1)
        for layer, weight in zip(layers, found, strict=True):
            layer.weight.register_hook(lambda grad, weight=weight: setattr(weight, "grad", grad))
        return out

    agree(fast, lambda x, *found: torch.cat([x @ weight.t() for weight in found], dim=-1), [made(2, 5, 7), *weights])


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("vocab", [2, 65, 1000])
def test_cross_entropy(vocab, cap):
    targets = torch.randint(vocab, (13,), generator=torch.Generator().manual_seed(0))
    agree(
        lambda h, w: linear_cross_entropy_sum(h, w, targets, chunk=5, cap=cap),
        lambda h, w: linear_cross_entropy_sum_plain(h, w, targets, cap=cap),
        [made(13, 6), made(vocab, 6, seed=1)],
    )


def test_a_second_backward_pass_is_an_error(path):
    if path == "plain":
        pytest.skip("the plain twin may be gone through twice")
    out = swiglu(made(3, 2), made(5, 2), made(5, 2), made(2, 5)).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


@pytest.mark.parametrize("family", [name for name in MODELS.names() if MODELS[name].causal])
def test_equal_threads_give_equal_bits(family):
    ids = torch.randint(31, (3, 9), generator=torch.Generator().manual_seed(1))

    def gradients():
        model = copy.deepcopy(first)
        model.cross_entropy_sum(model.hidden(ids).flatten(0, 1), ids.flatten()).backward()
        return [parameter.grad for parameter in model.parameters()]

    first = MODELS[family].tiny()
    assert all(torch.equal(one, other) for one, other in zip(gradients(), gradients(), strict=True))
