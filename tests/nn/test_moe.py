"""Laws of routing and balance: who is chosen, what shares add up to, and what evens out the use of experts."""

import pytest
import torch

from danlu.nn.experts import Experts
from danlu.nn.moe import Balance, GroupedRouter, SoftmaxRouter, SparseMLP, balance, balance_loss, z_loss
from danlu.nn.norm import RMSNorm


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(module):
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = made(*parameter.shape, seed=seed) / 2
    return module


def test_softmax_shares_before_and_after_the_choice():
    """Normalised shares are the softmax over the chosen logits; others are those of all experts."""
    x = made(11, 7)
    for normalised in (True, False):
        router = filled(SoftmaxRouter(7, 5, 3, normalised))
        found = router(x)
        logits = x @ router.weight.T
        assert torch.equal(found.expert_NK.sort().values, logits.topk(3).indices.sort().values)
        chosen = logits.gather(1, found.expert_NK).softmax(-1)
        wanted = chosen if normalised else logits.softmax(-1).gather(1, found.expert_NK)
        torch.testing.assert_close(found.share_NK, wanted)


def grouped(**changes):
    settings = {"groups": 3, "chosen_groups": 2, "scale": 2.5}
    return filled(GroupedRouter(7, 12, 4, True, **{**settings, **changes}))


def test_a_token_stays_within_its_groups_and_its_shares_add_up_to_the_scale():
    found = grouped()(made(29, 7))
    assert all(len(set(row)) <= 2 for row in (found.expert_NK // 4).tolist())
    torch.testing.assert_close(found.share_NK.sum(-1), torch.full((29,), 2.5))


def test_the_bias_chooses_but_does_not_weigh():
    router, x = grouped(groups=1, chosen_groups=1), made(29, 7)
    before = router(x)
    router.e_score_correction_bias += 0.25  # the same for all: nothing may change
    after = router(x)
    assert torch.equal(before.expert_NK, after.expert_NK) and torch.equal(before.share_NK, after.share_NK)
    router.e_score_correction_bias[5] = 9.0
    found = router(x)
    assert (found.expert_NK == 5).any(-1).all()
    score = (x @ router.weight.T).sigmoid().gather(1, found.expert_NK)
    torch.testing.assert_close(found.share_NK, 2.5 * score / score.sum(-1, keepdim=True))


def test_the_bias_evens_out_what_each_expert_gets():
    router, x = grouped(groups=1, chosen_groups=1), made(200, 7) + 1.0  # a common direction, which some experts like

    def busiest():
        return balance(router(x)).tokens_E.max() / (200 * 4 / 12)

    before = busiest()
    for _ in range(300):
        router.rebalance(balance(router(x)).tokens_E, 0.003)
    assert before > 1.8 and busiest() < 1.2


def test_balance_is_one_choice_a_token_when_all_are_used_alike_and_more_otherwise():
    """K when uniform; E when one expert gets every token with certainty (arXiv:2101.03961, eq. 4-6, with K choices)."""
    even = Balance(torch.full((6,), 20.0), torch.full((6,), 10.0), torch.tensor(0.0), 60)
    assert balance_loss([even]).item() == pytest.approx(2.0)
    one = Balance(torch.tensor([60.0, 0, 0, 0, 0, 0]), torch.tensor([60.0, 0, 0, 0, 0, 0]), torch.tensor(0.0), 60)
    assert balance_loss([one]).item() == pytest.approx(6.0)


def test_z_loss_is_the_mean_square_of_the_log_partition():
    routing = filled(SoftmaxRouter(7, 5, 2, True))(made(11, 7))
    assert z_loss([balance(routing)] * 2).item() == pytest.approx(routing.logits_NE.exp().sum(-1).log().square().mean().item())


def test_every_token_reaches_every_expert_it_chose():
    found = balance(filled(SoftmaxRouter(7, 5, 3, True))(made(13, 7)))
    assert found.tokens_E.sum() == 13 * 3


def test_routing_is_in_full_precision_whatever_the_activations():
    found = filled(SoftmaxRouter(7, 5, 3, True)).bfloat16()(made(13, 7).bfloat16())
    assert found.logits_NE.dtype == found.share_NK.dtype == torch.float32


def layer(shared=None):
    return filled(SparseMLP(SoftmaxRouter(7, 5, 2, True), Experts(5, 7, 6), shared)), filled(RMSNorm(7, 1e-6))


def test_the_layer_is_its_experts_and_the_shared_one():
    class Twice(torch.nn.Module):
        def forward(self, x, norm):
            return 2 * norm(x)

    (mixture, norm), x = layer(Twice()), made(2, 4, 7)
    routing = mixture.gate(norm(x).flatten(0, 1))
    own = mixture.experts.plain(norm(x).flatten(0, 1), routing.expert_NK, routing.share_NK).view(2, 4, 7)
    torch.testing.assert_close(mixture(x, norm), own + 2 * norm(x), rtol=1e-4, atol=1e-5)


def test_only_training_is_noted_and_only_once_a_pass():
    mixture, norm = layer()
    x = made(2, 4, 7)
    mixture.eval()(x, norm)
    assert mixture.noted is None and not mixture.take().any()
    mixture.train()(x, norm)
    first = mixture.noted
    mixture(x, norm)  # what a recomputation does
    assert mixture.noted is first
    mixture.noted = None
    mixture(made(1, 3, 7, seed=5), norm)
    assert mixture.noted.tokens == 3
    assert mixture.take().sum() == (8 + 3) * 2 and mixture.take().sum() == 0
