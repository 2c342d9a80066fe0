"""Divergences are TRL's, those of the coarser distribution are what the definition says, and chunks change nothing."""

import pytest
import torch
import torch.nn.functional as F

from danlu.nn.divergence import Wanted, divergence, linear_loss_sum, linear_loss_sum_plain

N, D, V = 11, 5, 23


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * 2


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0])
def test_values_and_gradients_are_trls(beta, temperature):
    gkd = pytest.importorskip("trl.experimental.gkd.gkd_trainer")
    student, teacher = numbers(2, N, V).requires_grad_(), numbers(2, N, V, seed=1)
    labels = torch.zeros(2, N, dtype=torch.long)
    labels[0, :4] = -100
    theirs = gkd.GKDTrainer.generalized_jsd_loss(student, teacher, labels, beta, temperature)
    (slope,) = torch.autograd.grad(theirs, student)
    asked = labels != -100
    wanted = Wanted((teacher[asked] / temperature).log_softmax(-1))
    ours = divergence(student[asked], wanted, beta, temperature).sum() / asked.sum()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(ours, student)[0], slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_coarser_teacher_gives_the_divergence_of_the_coarser_distributions_never_more(beta):
    student, teacher = numbers(N, V).double(), numbers(N, V, seed=2).double().log_softmax(-1)
    whole = divergence(student, Wanted(teacher), beta)
    before = torch.zeros(N).double()
    for kept in (1, 4, V - 1):
        logp, ids = teacher.topk(kept)
        rest = torch.log1p(-logp.exp().sum(-1, keepdim=True).clamp(max=1 - 1e-9))
        found = divergence(student, Wanted(torch.cat([logp, rest], 1), ids), beta)
        said = student.log_softmax(-1).gather(1, ids).exp()
        merged = torch.cat([said, 1 - said.sum(-1, keepdim=True)], 1).log()  # the same two distributions, merged by hand
        torch.testing.assert_close(found, divergence(merged, Wanted(torch.cat([logp, rest], 1)), beta), rtol=1e-3, atol=1e-4)
        assert (found <= whole + 1e-4).all() and (found >= before - 1e-4).all()
        before = found
    torch.testing.assert_close(before, whole, rtol=1e-2, atol=1e-3)


def test_equal_distributions_are_nowhere_apart_and_a_certain_student_gives_finite_gradients():
    logits = torch.tensor([[0.0, -1e4, 60.0], [90.0, 0.0, 0.0]], requires_grad=True)
    for beta in (0.0, 0.5, 1.0):
        same = divergence(logits, Wanted(logits.detach().log_softmax(-1)), beta)
        torch.testing.assert_close(same, torch.zeros(2), atol=1e-5, rtol=0)
        other = Wanted(torch.tensor([[0.3, 0.7]]).log().expand(2, 2), torch.zeros(2, 1, dtype=torch.long))
        (slope,) = torch.autograd.grad(divergence(logits, other, beta).sum(), logits)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("bias", [False, True])
def test_chunks_agree_with_the_definition(cap, bias):
    hidden, weight = numbers(N, D).requires_grad_(), numbers(V, D).requires_grad_()
    shift = numbers(V).requires_grad_() if bias else None
    teacher, targets = numbers(N, V, seed=3).log_softmax(-1), torch.arange(N) % V

    def loss(logits, rows):
        return 0.7 * divergence(logits, Wanted(teacher[rows]), 0.5, 2.0).sum() + 0.3 * F.cross_entropy(
            logits, targets[rows], reduction="sum"
        )

    leaves = [hidden, weight, *([shift] if bias else [])]
    plain = linear_loss_sum_plain(hidden, weight, loss, cap=cap, bias_V=shift)
    slopes = torch.autograd.grad(plain, leaves)
    for chunk in (1, 4, 100):
        ours = linear_loss_sum(hidden, weight, loss, chunk, cap=cap, bias_V=shift)
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
        for mine, theirs in zip(torch.autograd.grad(ours * 2, leaves), slopes, strict=True):
            torch.testing.assert_close(mine, theirs * 2, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear_loss_sum(hidden, weight, loss, 4, cap=cap, bias_V=shift), plain.detach())


def test_a_frozen_matrix_and_no_tokens_at_all():
    hidden, weight = numbers(N, D).requires_grad_(), numbers(V, D)
    linear_loss_sum(hidden, weight, lambda logits, rows: logits.square().sum(), 4).backward()
    torch.testing.assert_close(hidden.grad, 2 * (hidden.detach() @ weight.T) @ weight, rtol=1e-4, atol=1e-4)
    none = linear_loss_sum(hidden[:0], weight, lambda logits, rows: logits.sum())
    none.backward()
    assert none.item() == 0.0
