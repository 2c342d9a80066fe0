"""Chunked log-probabilities of tokens equal their definition: values, gradients, entropies, whatever learns and at any heat."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from danlu.models import MODELS
from danlu.nn.logprob import token_logprobs, token_logprobs_and_entropy, token_logprobs_plain
from tests.nn.test_loss import parts


def given(labelled="some", dtype=torch.float32, learns=(True, True, True)):
    hidden, weight, targets = parts(dtype=dtype)
    bias = torch.linspace(-2, 3, 11)
    if labelled != "all":
        targets[:: 3 if labelled == "some" else 1] = -100
    leaves = [part.detach().clone().requires_grad_(wanted) for part, wanted in zip((hidden, weight, bias), learns, strict=True)]
    return *leaves, targets


@pytest.fixture(params=["compiled", "plain"])
def kernels(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr("danlu.nn.kernels.usable", lambda *_: False)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("learns", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)])
@pytest.mark.parametrize(("cap", "temperature"), [(None, 1.0), (1.5, 1.0), (None, 0.7), (1.5, 1.3)])
@pytest.mark.parametrize(("labelled", "chunk"), [("all", 4), ("some", 5), ("some", 100), ("none", 4)])
def test_equals_the_definition_with_gradients(learns, cap, temperature, labelled, chunk):
    results = []
    for function, more in ((token_logprobs_and_entropy, {"chunk": chunk}), (token_logprobs_plain, {})):
        hidden, weight, bias, targets = given(labelled, learns=learns)
        chosen, entropy = function(hidden, weight, targets, cap=cap, bias_V=bias, temperature=temperature, **more)
        (chosen * torch.linspace(-1, 2, len(chosen))).sum().backward()  # every token weighs otherwise
        grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in (hidden, weight, bias)]
        results.append([chosen, entropy, *grads])
        assert [leaf.grad is not None for leaf in (hidden, weight, bias)] == list(learns)
        assert not entropy.requires_grad and bool((chosen[targets == -100] == 0).all())
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6)


def test_the_gradient_is_that_of_differences():
    hidden, weight, targets = parts(tokens=5, width=3, vocab=7)
    inputs = [hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_(),
              torch.linspace(-1, 1, 7, dtype=torch.float64, requires_grad=True)]  # fmt: skip
    targets[2] = -100
    for cap in (None, 2.0):
        assert torch.autograd.gradcheck(
            lambda h, w, b, cap=cap: token_logprobs(h, w, targets, cap=cap, bias_V=b, temperature=1.7, chunk=2), inputs
        )


@pytest.mark.usefixtures("kernels")
def test_rounded_activations_score_as_their_products_do_and_keep_a_full_precision_weight_gradient():
    results = []
    for function, more in ((token_logprobs, {"chunk": 4}), (lambda *a, **k: token_logprobs_plain(*a, **k)[0], {})):
        hidden, weight, bias, targets = given(dtype=torch.bfloat16)
        found = function(hidden, weight, targets, bias_V=bias, **more)
        found.sum().backward()
        assert hidden.grad.dtype == torch.bfloat16 and weight.grad.dtype == bias.grad.dtype == found.dtype == torch.float32
        results.append([found, hidden.grad, weight.grad, bias.grad])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


@pytest.mark.usefixtures("kernels")
def test_large_logits_do_not_overflow():
    hidden, weight, targets = parts()
    scaled = (hidden * 1e4).detach().requires_grad_()
    found, entropy = token_logprobs_and_entropy(scaled, weight, targets, chunk=4)
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(scaled.grad).all() and bool((entropy >= 0).all())


@pytest.mark.parametrize("bad", [11, -1])
def test_a_target_outside_the_vocabulary_is_an_error(bad):
    hidden, weight, targets = parts()
    targets[3] = bad
    with pytest.raises(IndexError, match="vocabulary of 11"):
        token_logprobs(hidden, weight, targets)


def test_without_gradients_nothing_is_kept_for_them():
    hidden, weight, targets = parts()
    with torch.no_grad():
        assert not token_logprobs(hidden, weight, targets).requires_grad


@pytest.mark.parametrize("family", MODELS.names())
def test_every_family_scores_tokens_as_its_logits_do(family):
    """Caps, biases, scales and transforms of a family's head are in its log-probabilities as in its logits and its loss."""
    model = MODELS[family].tiny().eval()
    if model.counted:
        ids = torch.arange(14).view(2, 7) % 5
        hidden = model.hidden(ids).flatten(0, 1)
    else:
        hidden = torch.randn(14, model.config.width, generator=torch.Generator().manual_seed(1)).mul_(2)
    targets = torch.arange(14) * 5 % model.vocab_size
    targets[3] = -100
    with torch.no_grad():
        found, entropy = model.token_logprobs_and_entropy(hidden, targets, 1.3)
        warm = model.logits(hidden).float() / 1.3
        torch.testing.assert_close(found, -cross_entropy(warm, targets, reduction="none"), rtol=1e-4, atol=1e-5)
        spread = torch.distributions.Categorical(logits=warm).entropy() * (targets != -100)
        torch.testing.assert_close(entropy, spread, rtol=1e-4, atol=1e-5)
        total = -model.token_logprobs(hidden, targets).sum()
        torch.testing.assert_close(total, model.cross_entropy_sum(hidden, targets), rtol=1e-5, atol=1e-5)
