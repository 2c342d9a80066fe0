"""Scans agree with the recurrence they stand for, gradients included, for any length, chunk and packing."""

import pytest
import torch

from danlu.nn import kernels
from danlu.nn.conv import CausalConv, causal_conv, causal_conv_plain
from danlu.nn.mask import positions
from danlu.nn.ssm import (
    dual_scan,
    dual_scan_plain,
    selective_scan,
    selective_scan_chunked,
    selective_scan_plain,
)
from danlu.nn.state import RecurrentState

LENGTHS = [1, 5, 16, 37]


@pytest.fixture(params=["compiled", "plain"])
def path(request, monkeypatch):
    """With the kernels and on a machine that has none."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "library", lambda dtype: None)
    elif kernels.library(torch.float32) is None:
        pytest.skip("no C compiler on this machine")


def drawn(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)


def packed(rows, tokens, seed=3):
    """Documents of some tokens each, non-decreasing along a row."""
    return torch.randint(0, 4, (rows, tokens), generator=torch.Generator().manual_seed(seed)).sort(1).values


def results(function, inputs, learned):
    """Outputs of a function and gradients of its first `learned` inputs."""
    leaves = [part.detach().clone().requires_grad_() for part in inputs[:learned]]
    y, state = function(*leaves, *inputs[learned:])
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return [y.detach(), state.detach(), *(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves)]


def agree(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5 * max(1.0, other.abs().max().item()))


def selective(tokens, rows=2, width=70, states=5):
    draw = drawn()
    return [
        draw(rows, tokens, width), draw(rows, tokens, width).exp(), -draw(states, width).exp(), draw(rows, tokens, states),
        draw(rows, tokens, states), draw(rows, states, width),
    ]  # fmt: skip


def dual(tokens, rows=2, heads=6, width=3, groups=2, states=7):
    draw = drawn()
    return [
        draw(rows, tokens, heads, width), draw(rows, tokens, heads).exp(), -draw(heads).exp(), draw(rows, tokens, groups, states),
        draw(rows, tokens, groups, states), draw(rows, heads, width, states),
    ]  # fmt: skip


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("several", [False, True], ids=["whole", "packed"])
def test_selective_scan(tokens, several, path):
    inputs = [*selective(tokens), positions(packed(2, tokens)) == 0 if several else None]
    wanted = results(selective_scan_plain, inputs, 5)
    agree(results(selective_scan, inputs, 5), wanted)
    for chunk in (None, 1, 4, 64):
        agree(results(lambda *given, chunk=chunk: selective_scan_chunked(*given, chunk=chunk), inputs, 5), wanted)


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
@pytest.mark.parametrize("several", [False, True], ids=["whole", "packed"])
def test_dual_scan(tokens, chunk, several):
    inputs, documents = dual(tokens), packed(2, tokens) if several else None
    if several:
        inputs[-1] = torch.zeros_like(inputs[-1])  # a packed row begins with nothing in memory
    wanted = results(dual_scan_plain, [*inputs, None if documents is None else positions(documents) == 0], 5)
    agree(results(lambda *given: dual_scan(*given, chunk=chunk), [*inputs, documents], 5), wanted)


@pytest.mark.parametrize("steps", [[1] * 11, [3, 1, 5, 2], [11]])
def test_a_scan_goes_on_from_its_state(steps, path):
    for scan, inputs in ((selective_scan, selective(11)), (dual_scan, dual(11))):
        whole, last = scan(*inputs)
        parts, state = [], inputs[5]
        x, dt, A, B, C = inputs[:5]
        for pieces in zip(*(part.split(steps, 1) for part in (x, dt, B, C)), strict=True):
            y, state = scan(pieces[0], pieces[1], A, pieces[2], pieces[3], state)
            parts.append(y)
        agree([torch.cat(parts, 1), state], [whole, last])


@pytest.mark.parametrize("decay", [1e-7, 1.0, 1e4])
def test_long_rows_stay_finite_and_exact_whatever_the_decay(decay):
    """4096 tokens: sums of the logarithms of decays reach 1e7 and more, where a float32 has no digits left for one token."""
    inputs = selective(4096, rows=1, width=3, states=2)
    inputs[1], inputs[2] = inputs[1].clamp(max=3), inputs[2] * decay
    wide = [part.double() for part in inputs]
    exact = [part.float() for part in results(selective_scan_plain, [*wide, None], 5)]
    agree(results(selective_scan, [*inputs, None], 5), exact)
    inputs = dual(4096, rows=1, heads=2, groups=1)
    inputs[1], inputs[2] = inputs[1].clamp(max=3) * torch.tensor([1.0, 1e-3]).repeat(2048)[:, None], inputs[2] * decay
    exact = [part.float() for part in results(dual_scan_plain, [*(part.double() for part in inputs), None], 5)]
    agree(results(dual_scan, [*inputs, None], 5), exact)


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("several", [False, True], ids=["whole", "packed"])
def test_causal_convolution(tokens, taps, bias, several, path):
    draw = drawn()
    inputs = [draw(2, tokens, 67), draw(taps, 67), *([draw(67)] if bias else [])]
    rest = [*([] if bias else [None]), positions(packed(2, tokens)) if several else None]
    pair = [
        results(lambda *given, function=function: (function(*given), torch.zeros(1)), [*inputs, *rest], len(inputs))
        for function in (causal_conv, causal_conv_plain)
    ]
    agree(*pair)


def test_the_convolution_is_torchs_and_goes_on_from_what_it_saw_last(path):
    layer, x = CausalConv(5, 3, bias=True), drawn(1)(2, 11, 5)
    with torch.no_grad():
        for seed, parameter in enumerate(layer.parameters()):
            parameter.copy_(drawn(seed)(*parameter.shape))
        theirs = torch.nn.functional.conv1d(x.mT, layer.weight, layer.bias, padding=2, groups=5)[..., :11].mT
        torch.testing.assert_close(layer(x, None), torch.nn.functional.silu(theirs))
        memory = RecurrentState(latest=torch.zeros(2, 2, 5))
        parts = [layer(part, None, memory) for part in x.split([1, 1, 4, 5], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), layer(x, None))
