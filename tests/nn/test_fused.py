"""Every compiled pass computes what its plain twin says, gradients included, in both types of activations."""

import copy

import pytest
import torch

from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.nn import kernels
from danlu.nn.linear import Linear
from danlu.nn.loss import linear_cross_entropy_sum, linear_cross_entropy_sum_plain
from danlu.nn.mlp import FusedSwiGLU, SwiGLU
from danlu.nn.norm import RMSNorm, rms_norm, rms_norm_plain
from danlu.nn.project import project, project_plain
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


def assert_agree(fast, plain, inputs, dtype=torch.float32):
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
    assert_agree(
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
    assert_agree(
        lambda x, w=None: norm_rotate(x, w, 1e-3, *rope),
        lambda x, w=None: norm_rotate_plain(x, w, 1e-3, *rope),
        inputs, dtype,
    )  # fmt: skip


def parts(module, norm, dtype):
    """Give a module and its norm random values; the norm hands on `dtype`."""
    norm.compute_dtype = dtype
    for index, parameter in enumerate([*module.parameters(), norm.weight]):
        parameter.data = made(*parameter.shape, seed=index + 1).detach()


def assert_agree_with_weights(fast, plain, module, norm, dtype):
    results = []
    for function in (fast, plain):
        x = made(2, 5, 7)
        module.zero_grad(), norm.zero_grad()
        out = function(x)
        (out.float() * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        results.append([out, x.grad, norm.weight.grad, *(parameter.grad for parameter in module.parameters())])
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.3}
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("kind", [SwiGLU, FusedSwiGLU])
@pytest.mark.parametrize("dtype", TYPES)
def test_swiglu(dtype, kind):
    module, norm = kind(7, 11), RMSNorm(7, 1e-3)
    parts(module, norm, dtype)
    assert_agree_with_weights(lambda x: module(x, norm), lambda x: module.plain(x, norm), module, norm, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("outputs", [[3, 5, 2], [11]])
def test_project(outputs, dtype):
    layers, norm = torch.nn.ModuleList(Linear(7, size) for size in outputs), RMSNorm(7, 1e-3)
    parts(layers, norm, dtype)

    def joined(function):
        return lambda x: torch.cat(function(x, norm, *layers), dim=-1)

    assert_agree_with_weights(joined(project), joined(project_plain), layers, norm, dtype)


def eye():
    """A gated layer whose matrices are all one, behind a norm that changes little."""
    module, norm = SwiGLU(6, 6), RMSNorm(6, 1e-6)
    for parameter in module.parameters():
        parameter.data = torch.eye(6)
    norm.weight.data = torch.tensor([1e4, -1e4, 90.0, -90.0, 0.0, 1.0])
    return module, norm


def test_swiglu_survives_extreme_gates():
    module, norm = eye()
    x = torch.ones(1, 1, 6)
    torch.testing.assert_close(module(x, norm), module.plain(x, norm), rtol=1e-5, atol=1e-6)


def test_not_a_number_is_not_hidden():
    x = torch.tensor([[1.0, float("nan"), 2.0, 1.0, 1.0, 1.0]])
    module, norm = eye()
    assert rms_norm(x, torch.ones(6), 1e-6).isnan().all()
    assert module(x, norm).isnan().any()
    assert linear_cross_entropy_sum(x, torch.eye(6), torch.tensor([1])).isnan()


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("vocab", [2, 65, 1000])
def test_cross_entropy(vocab, cap):
    targets = torch.randint(vocab, (13,), generator=torch.Generator().manual_seed(0))
    assert_agree(
        lambda h, w: linear_cross_entropy_sum(h, w, targets, chunk=5, cap=cap),
        lambda h, w: linear_cross_entropy_sum_plain(h, w, targets, cap=cap),
        [made(13, 6), made(vocab, 6, seed=1)],
    )


def test_a_second_backward_pass_is_an_error(path):
    if path == "plain":
        pytest.skip("the plain twin may be gone through twice")
    module, norm = eye()
    out = module(made(3, 6), norm).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


TRAINED = [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM) and not MODELS[name].counted]


@pytest.mark.parametrize("family", TRAINED)
def test_equal_threads_give_equal_bits(family):
    ids = torch.randint(31, (3, 9), generator=torch.Generator().manual_seed(1))

    def gradients():
        model = copy.deepcopy(first)
        model.cross_entropy_sum(model.hidden(ids).flatten(0, 1), ids.flatten()).backward()
        return [parameter.grad for parameter in model.parameters()]

    first = MODELS[family].tiny()
    assert all(torch.equal(one, other) for one, other in zip(gradients(), gradients(), strict=True))
