"""The objective equals its definition on logits, whatever the batch leaves unlabelled."""

import pytest
import torch
import torch.nn.functional as F

from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch


@pytest.mark.parametrize("documents", [None, torch.tensor([[0] * 7, [1, 1, 1, 2, 2, 2, 2], [5] * 7], dtype=torch.int32)])
def test_loss_sum_is_cross_entropy_of_the_labelled_tokens(documents):
    model = MODELS["qwen3"].tiny()
    ids = torch.randint(31, (3, 7), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, 1)
    targets[:, -1], targets[1, 2] = -100, -100
    batch = Batch(ids, targets, documents)
    found = OBJECTIVES.build(OBJECTIVES["causal"].Config()).loss_sum(model, batch)
    logits = model(ids, documents_BT=documents).flatten(0, 1)
    torch.testing.assert_close(found, F.cross_entropy(logits, targets.flatten(), reduction="sum"))
    assert batch.target_count == 17


def test_gradients_of_micro_batches_add_up_to_the_whole():
    model = MODELS["llama"].tiny()
    objective = OBJECTIVES.build(OBJECTIVES["causal"].Config())
    ids = torch.randint(31, (5, 7), generator=torch.Generator().manual_seed(2))
    targets = ids.roll(-1, 1)
    targets[3, 2:] = -100

    def gradients(parts):
        model.zero_grad()
        for part in parts:
            (objective.loss_sum(model, Batch(ids[part], targets[part])) / 30).backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    whole = gradients([slice(None)])
    for found, wanted in zip(gradients([slice(0, 2), slice(2, 5)]), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_batch_without_labels_costs_and_teaches_nothing():
    model = MODELS["qwen3"].tiny()
    ids = torch.zeros(2, 3, dtype=torch.int64)
    loss = OBJECTIVES.build(OBJECTIVES["causal"].Config()).loss_sum(model, Batch(ids, torch.full_like(ids, -100)))
    loss.backward()
    assert loss.item() == 0.0
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)
