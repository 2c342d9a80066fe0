"""The chunked head equals cross entropy over all logits, in value, gradients and memory class."""

import pytest
import torch

from danlu.nn.loss import linear_cross_entropy_sum, linear_cross_entropy_sum_plain


def parts(tokens=17, width=5, vocab=11, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(vocab, width, generator=generator).requires_grad_()
    targets = torch.randint(vocab, (tokens,), generator=generator)
    return hidden, weight, targets


@pytest.mark.parametrize("chunk", [1, 4, 17, 100])
@pytest.mark.parametrize("labelled", ["all", "some", "none"])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_equals_the_definition_with_gradients(chunk, labelled, cap):
    results = []
    for function, more in ((linear_cross_entropy_sum, {"chunk": chunk}), (linear_cross_entropy_sum_plain, {})):
        hidden, weight, targets = parts()
        more["cap"] = cap
        if labelled != "all":
            targets[:: 3 if labelled == "some" else 1] = -100
        loss = function(hidden, weight, targets, **more)
        (loss * 0.7).backward()
        results.append([loss, hidden.grad, weight.grad])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_of_each_token_is_added_and_learns(monkeypatch, compiled, cap, dtype):
    if not compiled:
        monkeypatch.setattr("danlu.nn.kernels.usable", lambda *_: False)
    results = []
    for function, more in ((linear_cross_entropy_sum, {"chunk": 5}), (linear_cross_entropy_sum_plain, {})):
        hidden, weight, targets = parts(dtype=dtype)
        bias = torch.linspace(-2, 3, 11).requires_grad_()
        targets[::4] = -100
        loss = function(hidden, weight, targets, cap=cap, bias_V=bias, **more)
        (loss * 0.7).backward()
        results.append([loss, hidden.grad, weight.grad, bias.grad])
    for one, other in zip(*results, strict=True):
        near = 1e-5 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(one, other, rtol=near, atol=near)
    assert results[0][3].dtype == torch.float32


def test_only_the_bias_may_learn():
    hidden, weight, targets = (part.detach() for part in parts())
    bias = torch.zeros(11, requires_grad=True)
    linear_cross_entropy_sum(hidden, weight, targets, bias_V=bias).backward()
    wanted = (hidden @ weight.T).softmax(-1).sum(0) - torch.bincount(targets, minlength=11)
    torch.testing.assert_close(bias.grad, wanted, rtol=1e-5, atol=1e-5)


def test_large_logits_do_not_overflow():
    hidden, weight, targets = parts()
    scaled = (hidden * 1e4).detach().requires_grad_()
    loss = linear_cross_entropy_sum(scaled, weight, targets, chunk=4)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(scaled.grad).all()


def test_rounded_activations_keep_a_full_precision_weight_gradient():
    hidden, weight, targets = parts(dtype=torch.bfloat16)
    linear_cross_entropy_sum(hidden, weight, targets, chunk=4).backward()
    exact, exact_weight, _ = parts()
    linear_cross_entropy_sum_plain(exact, exact_weight, targets).backward()
    assert hidden.grad.dtype == torch.bfloat16 and weight.grad.dtype == torch.float32
    torch.testing.assert_close(weight.grad, exact_weight.grad, rtol=0.1, atol=0.1)


def test_without_gradients_nothing_is_prepared_for_them():
    hidden, weight, targets = parts()
    with torch.no_grad():
        assert not linear_cross_entropy_sum(hidden, weight, targets).requires_grad


@pytest.mark.parametrize("bad", [11, -1])
def test_a_target_outside_the_vocabulary_is_an_error(bad):
    hidden, weight, targets = parts()
    targets[3] = bad
    with pytest.raises(IndexError, match="vocabulary of 11"):
        linear_cross_entropy_sum(hidden, weight, targets)
