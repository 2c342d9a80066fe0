"""Mixtures of experts in a whole model: balance as transformers computes it, counted once, and what of them is counted."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from danlu.core.settings import read_recipe
from danlu.models import MODELS
from danlu.models.sparse import SparseDecoder
from danlu.models.weights import load_model, save_model
from danlu.objectives.base import Batch
from danlu.train.launch import World
from danlu.train.parallel import Parallel, save_activations
from tests.models.reference import ours, theirs, tokens

FAMILIES = [name for name in MODELS.names() if issubclass(MODELS[name], SparseDecoder)]
WITH_LOSS = [("mixtral", {"num_local_experts": 5}), ("qwen3_moe", {"num_experts": 9, "num_hidden_layers": 3})]


class Causal(torch.nn.Module):
    def loss_sum(self, model, batch):
        return model.cross_entropy_sum(model.hidden(batch.ids).flatten(0, 1), batch.targets.flatten())


def batch():
    ids = tokens(3, 11)
    targets = ids.roll(-1, 1)
    targets[:, -1] = -100
    return Batch(ids, targets)


def scored(model, prepare=None):
    """Loss with the penalty, as training sums it, and gradients by name."""
    if prepare:
        prepare(model)
    loss = Parallel(model.train(), Causal(), World()).loss_sum(batch())
    loss.backward()
    return loss.detach(), {name: part.grad for name, part in model.named_parameters()}


@pytest.mark.parametrize(("family", "changes"), WITH_LOSS)
def test_balance_and_its_gradients_equal_transformers(family, changes, tmp_path):
    mine = ours(family, {**changes, "router_aux_loss_coef": 0.3, "tie_word_embeddings": False})
    save_model(mine, tmp_path)
    reference = theirs(family, tmp_path).train()
    given = batch()
    found = reference(given.ids, output_router_logits=True)
    nats = F.cross_entropy(found.logits.flatten(0, 1), given.targets.flatten(), reduction="sum")
    wanted = nats + 0.3 * found.aux_loss * given.target_count
    wanted.backward()
    loss, grads = scored(mine)
    torch.testing.assert_close(mine.penalty(), 0.3 * found.aux_loss.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-5, atol=1e-4)
    for name, part in reference.named_parameters():
        scale = part.grad.abs().max()
        assert (grads[name] - part.grad).abs().max() < 1e-4 * scale, name


@pytest.mark.parametrize("family", FAMILIES)
def test_computing_blocks_again_changes_no_gradient_and_counts_nothing_twice(family):
    penalties = {"router_aux_loss_coef": 0.3, "router_z_loss_coef": 0.1}
    plain, again = (MODELS[family].tiny(**penalties) for _ in range(2))
    (loss, grads), (loss_again, grads_again) = scored(plain), scored(again, save_activations)
    assert torch.equal(loss, loss_again)
    for name, grad in grads.items():
        torch.testing.assert_close(grads_again[name], grad, rtol=1e-5, atol=1e-6, msg=name)
    for mixture in again.mixtures:
        assert mixture.take().sum() == 33 * again.config.num_experts_per_tok


@pytest.mark.parametrize("family", FAMILIES)
def test_without_weights_there_is_no_penalty_and_without_training_nothing_is_noted(family):
    model = MODELS[family].tiny(router_aux_loss_coef=0.0)
    model.hidden(tokens())
    assert model.penalty() is None
    model = MODELS[family].tiny(router_aux_loss_coef=0.1).eval()
    model.hidden(tokens())
    assert model.penalty() is None
    model.train().hidden(tokens())
    assert model.penalty() > 0
    model.eval().hidden(tokens())
    assert model.penalty() is None, "an older pass is forgotten"


@pytest.mark.parametrize("family", FAMILIES)
def test_use_is_counted_over_steps_and_processes_until_it_is_taken(family):
    model = MODELS[family].tiny()
    for _ in range(3):
        model.hidden(tokens(2, 13))
    model.after_step(lambda values: [2 * value for value in values], moved=True)  # as two processes would add up
    model.hidden(tokens(1, 5))
    model.after_step(list, moved=False)
    used_LE = model.take_use()
    assert len(used_LE) == len(model.mixtures)
    assert used_LE.sum(1).unique().tolist() == [(2 * 3 * 26 + 5) * model.config.num_experts_per_tok], "none is dropped"
    assert model.take_use() is None


def test_only_experts_that_a_token_takes_count_as_work():
    model = MODELS["mixtral"].tiny(num_local_experts=5, num_experts_per_tok=2, num_hidden_layers=3)
    dense = MODELS["mistral"].tiny(num_hidden_layers=3)  # one expert of the same width
    one = 3 * 3 * 24 * 40
    assert model.matmul_parameters() == dense.matmul_parameters() + one + 3 * 5 * 24  # another expert and the routers


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_the_dials_sizes_does_the_work_of_a_dense_one(family):
    sizes = {"width": 128, "inner": 352, "layers": 3, "heads": 4, "context": 64}
    dense, sparse = (MODELS[name](MODELS[name].Config(**MODELS[name].Config.sized(**sizes))) for name in ("llama", family))
    assert sparse.matmul_parameters() == pytest.approx(dense.matmul_parameters(), rel=0.15)
    assert sum(part.numel() for part in sparse.parameters()) > 1.5 * sum(part.numel() for part in dense.parameters())


def test_the_bias_moves_with_a_step_that_moved_and_stays_out_of_gradients():
    model = MODELS["deepseek_v3"].tiny(router_bias_update_rate=0.25)
    gate = model.mixtures[0].gate
    model.hidden(tokens())
    tokens_E = model.mixtures[0].tokens_E.clone()
    model.after_step(list, moved=False)
    assert not gate.e_score_correction_bias.any()
    model.hidden(tokens())
    model.after_step(list, moved=True)
    assert torch.equal(gate.e_score_correction_bias, 0.25 * (tokens_E.mean() - tokens_E).sign())
    assert "e_score_correction_bias" not in " ".join(name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("mixtral", {"num_local_experts": 2, "num_experts_per_tok": 3}, "more than the 2 experts"),
        ("qwen3_moe", {"num_experts": 3, "num_experts_per_tok": 4}, "more than the 3 experts"),
        ("deepseek_v3", {"n_routed_experts": 7}, "divide among n_group"),
        ("deepseek_v3", {"num_experts_per_tok": 5}, "more than the 4 experts"),
        ("deepseek_v3", {"num_key_value_heads": 2}, "keys for every head"),
    ],
)
def test_absurd_settings_are_refused(family, changes, says):
    with pytest.raises(ValueError, match=says):
        MODELS[family].tiny(**changes)


def test_the_recipe_of_grok_1_has_its_published_weights():
    """314B in all; of the experts two of eight, so about 84B at work for a token."""
    settings = read_recipe(Path(__file__).resolve().parents[2] / "recipes" / "pretrain" / "grok1.yaml")
    with torch.device("meta"):
        model = MODELS["mixtral"](MODELS["mixtral"].Config(**settings["model"], vocab_size=settings["vocab_size"]))
    assert sum(part.numel() for part in model.parameters()) // 10**9 in (314, 315, 316)
    assert model.matmul_parameters() == pytest.approx(84e9, rel=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_it_is_as_near_to_full_precision_as_transformers_is(family, tmp_path):
    """Token by token, by the median: a rounded router may send a token elsewhere, here as there."""
    save_model(ours(family, {"initializer_range": 0.1}), tmp_path)
    exact = theirs(family, tmp_path)
    ids = tokens(4, 19)
    with torch.no_grad():
        wanted = exact(ids).logits
        error = [
            ((short(ids) - wanted).norm(dim=-1) / wanted.norm(dim=-1)).median()
            for short in (load_model(tmp_path, torch.bfloat16), lambda ids: exact.bfloat16()(ids).logits)
        ]
    assert 0 < error[0] < 1.5 * error[1] < 0.1
