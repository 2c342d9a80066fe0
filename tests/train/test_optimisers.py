"""Laws of the optimisers: orthogonal updates, agreement with PyTorch's own, exact state."""

import copy
import math

import pytest
import torch
from torch import nn

from danlu.models import MODELS
from danlu.train.optimisers import OPTIMISERS
from danlu.train.optimisers.adamw import AdamW
from danlu.train.optimisers.muon import Muon, orthogonalise_all, step_scale
from danlu.train.optimisers.orthogonal import COEFFICIENTS, orthogonalise, orthogonalise_plain
from danlu.train.optimisers.roles import roles


class Small(nn.Module):
    """A tied table, matrices of three shapes (two of them transposes), a stack of matrices and a vector."""

    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(11, 6)
        self.q_proj = nn.Linear(6, 6, bias=False)
        self.up_proj = nn.Linear(6, 10)
        self.down_proj = nn.Linear(10, 6, bias=False)
        self.experts = nn.Parameter(torch.randn(3, 10, 6) / 3)
        self.lm_head = nn.Linear(6, 11, bias=False)
        self.lm_head.weight = self.embed_tokens.weight

    def forward(self, ids):
        x = self.embed_tokens(ids)
        x = x + self.q_proj(x)
        x = x + self.down_proj(torch.tanh(self.up_proj(x) + torch.einsum("koi,bti->bto", self.experts, x)))
        return self.lm_head(x)


def small(seed=0):
    torch.manual_seed(seed)
    return Small()


def train(model, optimiser, steps, start=0):
    for step in range(start, start + steps):
        ids = torch.randint(11, (2, 7), generator=torch.Generator().manual_seed(step))
        nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()


def build(name, model, **settings):
    return OPTIMISERS.build(OPTIMISERS[name].Config(**settings), list(model.named_parameters()))


def test_roles_split_by_use_and_count_a_tied_head_once():
    found = roles(small().named_parameters())
    assert (len(found.matrices), len(found.tables), len(found.vectors)) == (4, 1, 1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.embed_tokens.weight", "tables"),
        ("lm_head.weight", "tables"),
        ("transformer.wte.weight", "tables"),
        ("transformer.h.0.attn.c_attn.weight", "matrices"),
        ("model.layers.3.self_attn.q_proj.weight", "matrices"),
        ("model.value_embeds.0.weight", "tables"),
        ("decoder.weight", "tables"),
        ("model.layers.0.shared_expert.up_proj.weight", "matrices"),
    ],
)
def test_roles_know_the_names_on_disk(name, kind):
    assert len(getattr(roles([(name, nn.Parameter(torch.zeros(3, 2)))]), kind)) == 1


def test_frozen_parameters_are_left_out():
    model = small()
    model.q_proj.requires_grad_(False)
    before = model.q_proj.weight.clone()
    train(model, build("muon", model), 2)
    assert torch.equal(model.q_proj.weight, before)


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 9), (2, 16, 48)])
def test_orthogonalise_agrees_with_the_singular_value_decomposition(shape):
    torch.manual_seed(1)
    x = torch.randn(shape)
    fast, plain = orthogonalise(x), orthogonalise_plain(x)
    values = torch.linalg.svdvals(fast)
    assert values.min() > 0.8 and values.max() < 1.2
    cosine = (fast * plain).sum((-2, -1)) / (fast.norm(dim=(-2, -1)) * plain.norm(dim=(-2, -1)))
    assert cosine.min() > 0.98


def test_orthogonalise_lifts_every_value_above_a_thousandth():
    values = torch.logspace(-2.9, 0, 400, dtype=torch.float64)
    values = values / values.max() / 1.01
    for a, b, c in COEFFICIENTS:
        values = a * values + b * values**3 + c * values**5
    assert values.min() > 0.8 and values.max() < 1.2


def test_orthogonalise_keeps_zero():
    assert torch.equal(orthogonalise(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))


def test_batched_matrices_equal_one_at_a_time():
    torch.manual_seed(2)
    updates = [torch.randn(4, 6), torch.randn(6, 4), torch.randn(5, 5), torch.randn(2, 4, 6), torch.randn(4, 6)]
    for whole, alone in zip(orthogonalise_all(updates, 5), (orthogonalise_all([u], 5)[0] for u in updates)):
        torch.testing.assert_close(whole, alone, rtol=1e-4, atol=1e-6)
    transposed = orthogonalise_all([updates[0].mT], 5)[0].mT
    torch.testing.assert_close(transposed, orthogonalise_all([updates[0]], 5)[0], rtol=1e-4, atol=1e-6)


def test_muon_agrees_with_torch_at_equal_polynomial(monkeypatch):
    """torch.optim.Muon runs one fixed polynomial in bfloat16: with that polynomial, ours agrees to bfloat16's rounding."""
    monkeypatch.setattr("danlu.train.optimisers.orthogonal.COEFFICIENTS", ((3.4445, -4.775, 2.0315),) * 5)
    torch.manual_seed(3)
    shapes = [(8, 8), (12, 5), (5, 12)]
    ours, theirs = ([nn.Parameter(torch.randn(s)) for s in shapes] for _ in range(2))
    for mine, other in zip(ours, theirs):
        other.data.copy_(mine.data)
    start = [p.detach().clone() for p in ours]
    config = Muon.Config(learning_rate=0.05, weight_decay=0.1, iterations=5)
    left = Muon(config, [(f"layer.{i}.weight", p) for i, p in enumerate(ours)])
    right = torch.optim.Muon(theirs, lr=0.05, weight_decay=0.1, momentum=0.95)
    for _ in range(4):
        for mine, other in zip(ours, theirs):
            mine.grad = torch.randn(mine.shape)
            other.grad = mine.grad.clone()
        left.step()
        right.step()
    for mine, other, begin in zip(ours, theirs, start):
        assert (mine - other).norm() < 0.03 * (mine - begin).norm()


def test_muon_moves_every_direction_alike():
    parameter = nn.Parameter(torch.zeros(12, 3))
    optimiser = Muon(Muon.Config(learning_rate=0.1, iterations=5), [("layer.weight", parameter)])
    parameter.grad = torch.randn(12, 3) @ torch.diag(torch.tensor([1.0, 0.3, 0.05]))
    optimiser.step()
    values = torch.linalg.svdvals(parameter.detach())
    assert step_scale(parameter.shape) == 2.0
    assert torch.all((values > 0.8 * 0.2) & (values < 1.2 * 0.2))


def test_muon_moves_tables_exactly_as_torch_adamw():
    left, right = small(), small()
    ours = build("muon", left, table_rate=0.01, vector_rate=0.01)
    theirs = torch.optim.AdamW(right.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0)
    for step in range(3):
        torch.manual_seed(step)
        gradient = torch.randn(11, 6)
        left.embed_tokens.weight.grad, right.embed_tokens.weight.grad = gradient, gradient.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(left.embed_tokens.weight, right.embed_tokens.weight)


@pytest.mark.parametrize(("name", "rates"), [("muon", {"table_rate": 0.01}), ("adamw", {"learning_rate": 0.01})])
def test_decay_of_tables_is_torch_adamws_down_to_the_size_of_new_rows(name, rates):
    left, right = small(), small()
    ours = build(name, left, **rates, epsilon=1e-10, table_decay=0.5)
    theirs = torch.optim.AdamW(right.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.5)
    gradient = torch.randn(11, 6)
    gradient[3] = 0.0
    for model in (left, right):
        with torch.no_grad():
            model.embed_tokens.weight.copy_(torch.randn(11, 6, generator=torch.Generator().manual_seed(0)))
            model.embed_tokens.weight[3] = 0.01
    for _ in range(3):
        left.embed_tokens.weight.grad, right.embed_tokens.weight.grad = gradient.clone(), gradient.clone()
        ours.step()
        theirs.step()
    moved = [row for row in range(11) if row != 3]
    torch.testing.assert_close(left.embed_tokens.weight[moved], right.embed_tokens.weight[moved])
    assert torch.equal(left.embed_tokens.weight[3], torch.full((6,), 0.01)) and (right.embed_tokens.weight[3] < 0.01).all()


@pytest.mark.parametrize("name", OPTIMISERS.names())
def test_every_optimiser_learns_and_says_its_base_rates(name):
    model = small()
    optimiser = build(name, model)
    assert all(group["base_lr"] == group["lr"] > 0 for group in optimiser.param_groups)
    assert {id(p) for group in optimiser.param_groups for p in group["params"]} == {id(p) for p in model.parameters()}
    ids = torch.arange(11).repeat(2, 2)

    def loss():
        return nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    before = loss().item()
    for _ in range(30):
        loss().backward()
        optimiser.step()
        optimiser.zero_grad()
    assert loss().item() < before - 0.2


@pytest.mark.parametrize("name", OPTIMISERS.names())
def test_state_goes_to_disk_and_back_exactly(name, tmp_path):
    straight = small()
    optimiser = build(name, straight)
    train(straight, optimiser, 5)
    torch.save({"model": straight.state_dict(), "optimiser": optimiser.state_dict()}, tmp_path / "state.pt")
    train(straight, optimiser, 4, start=5)

    resumed = small(seed=1)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(saved["model"])
    again = build(name, resumed)
    again.load_state_dict(saved["optimiser"])
    train(resumed, again, 4, start=5)
    for mine, other in zip(straight.parameters(), resumed.parameters()):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", OPTIMISERS.names())
def test_state_passes_through_distributed_checkpoints(name):
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    model = small()
    optimiser = build(name, model)
    train(model, optimiser, 3)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimiser))
    fresh = copy.deepcopy(model)
    again = build(name, fresh)
    set_optimizer_state_dict(fresh, again, saved)
    train(model, optimiser, 2, start=3)
    train(fresh, again, 2, start=3)
    for mine, other in zip(model.parameters(), fresh.parameters()):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", OPTIMISERS.names())
def test_two_equal_runs_are_bit_equal(name):
    runs = []
    for _ in range(2):
        model = small()
        train(model, build(name, model), 4)
        runs.append(model)
    assert all(torch.equal(a, b) for a, b in zip(*(run.parameters() for run in runs)))


def test_adamw_decays_matrices_only():
    groups = AdamW(AdamW.Config(), list(small().named_parameters())).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [len(group["params"]) for group in groups] == [4, 2]


def test_a_rate_of_zero_moves_nothing():
    model = small()
    optimiser = build("muon", model)
    before = [p.detach().clone() for p in model.parameters()]
    for group in optimiser.param_groups:
        group["lr"] = 0.0
    train(model, optimiser, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))
    assert math.isfinite(sum(p.sum().item() for p in model.parameters()))


def test_each_expert_of_a_stack_is_a_matrix_of_its_own():
    """Also a stack wider than tall, beside single matrices of the same shape; each expert moves as it would alone."""
    torch.manual_seed(4)
    stacks = [torch.randn(3, 10, 6), torch.randn(4, 6, 10), torch.randn(10, 6)]
    found = orthogonalise_all(stacks, 5)
    for stack, result in zip(stacks[:2], found, strict=False):
        assert result.shape == stack.shape
        for expert, update in zip(stack, result, strict=True):
            torch.testing.assert_close(update, orthogonalise_all([expert], 5)[0], rtol=1e-4, atol=1e-5)
            values = torch.linalg.svdvals(update)
            assert values.min() > 0.8 and values.max() < 1.2
    assert step_scale(stacks[0].shape) == step_scale(stacks[2].shape)


def test_experts_are_hidden_matrices_for_muon():
    model = MODELS["deepseek_v3"].tiny()
    found = roles(model.named_parameters())
    experts = {id(part) for mixture in model.mixtures for part in mixture.experts.parameters()}
    assert experts <= {id(part) for part in found.matrices}
