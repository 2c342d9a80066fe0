"""Objectives over labelled samples: values by hand; loss and gradients of packed samples equal transformers' one by one."""

import math

import numpy as np
import pytest
import torch

from danlu.core.labels import NO_LABEL
from danlu.data.shards import Document
from danlu.models.heads import HeadConfig, attach
from danlu.models.weights import save_model
from danlu.objectives import OBJECTIVES
from danlu.objectives.contrast import Contrast, info_nce
from danlu.objectives.labelled import Encoded, Labelled, place_at
from danlu.train.samples import pack
from tests.models.reference import CASES, ours, theirs

FIRST = dict(reversed(CASES))
LENGTHS = (4, 7, 3, 9, 5)
TAGS = ["O", "B-X", "I-X"]


def built(name, **settings) -> Labelled:
    return OBJECTIVES.build(OBJECTIVES[name].Config(**settings))


def sample_ids():
    generator = torch.Generator().manual_seed(11)
    return [(torch.randint(29, (length,), generator=generator) + 2).tolist() for length in LENGTHS]


def encoded(task, first) -> list[Encoded]:
    """Five samples of one task, targets in all places that matter."""
    found = []
    for number, ids in enumerate(sample_ids()):
        if task == "tag":
            targets = np.array([NO_LABEL if place % 3 == 2 else (number + place) % 3 for place in range(len(ids))])
            found.append(Encoded(np.array(ids), targets, np.zeros(len(ids), np.float32), np.zeros(len(ids), np.int32)))
        elif task == "extract":
            found.append(place_at(ids, True, number % 3, len(ids) - 1))
        elif task == "regress":
            found.append(place_at(ids, first, 0, number - 1.5))
        else:
            found.append(place_at(ids, first, number % 3))
    return found


def their_loss(model, task, part):
    """The loss of one sample alone, as transformers computes it, times the targets that it has."""
    ids = torch.tensor(part.ids)[None]
    if task == "tag":
        return model(ids, labels=torch.tensor(part.targets)[None]).loss * int((part.targets != NO_LABEL).sum())
    if task == "extract":
        start, end = torch.tensor([int(part.targets[0])]), torch.tensor([int(part.values[0])])
        return model(ids, start_positions=start, end_positions=end).loss
    if task == "regress":
        return model(ids, labels=torch.tensor([float(part.values.sum())])).loss
    return model(ids, labels=torch.tensor([int(part.targets.max())])).loss


@pytest.mark.parametrize("task", ["classify", "regress", "tag", "extract"])
@pytest.mark.parametrize("family", [name for name in ("qwen3", "gpt2", "bert", "modernbert") if name in FIRST])
def test_loss_and_gradients_of_packed_samples_equal_transformers_one_by_one(family, task, tmp_path):
    labels = {"classify": ["a", "b", "c"], "tag": TAGS}.get(task, [])
    model = attach(ours(family, FIRST[family]), HeadConfig(task=task, labels=labels), seed=2).eval()
    save_model(model, tmp_path)
    other = theirs(family, tmp_path)
    parts = encoded(task, model.pooling == "first")
    batch = pack(built(task), list(enumerate(parts)), row_tokens=16)
    assert batch.target_count == (sum(int((part.targets >= 0).sum()) for part in parts))
    loss = built(task).loss_sum(model, batch)
    loss.backward()
    expected = sum(their_loss(other, task, part) for part in parts)
    expected.backward()
    torch.testing.assert_close(loss.detach(), expected.detach().float(), rtol=1e-5, atol=1e-6)
    grads = {name: parameter.grad for name, parameter in other.named_parameters() if parameter.grad is not None}
    for name, parameter in model.named_parameters():
        ((there, _),) = model.pieces(name).items() if len(model.pieces(name)) == 1 else [(None, None)]
        assert there in grads or float(parameter.grad.abs().max()) == 0, name
        torch.testing.assert_close(parameter.grad, grads[there], rtol=1e-3, atol=1e-5)


def test_info_nce_by_hand():
    query, key = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]])
    root = math.sqrt(0.5)
    first = -math.log(math.exp(1.0 / 0.5) / (math.exp(1.0 / 0.5) + math.exp(root / 0.5)))
    second = -math.log(math.exp(root / 0.5) / (math.exp(0.0) + math.exp(root / 0.5)))
    found = info_nce(query, key, torch.tensor([0, 1]), temperature=0.5)
    assert float(found) == pytest.approx(first + second, rel=1e-6)


def test_partners_of_one_group_are_no_negatives():
    query = torch.eye(3)
    alike = info_nce(query, query, torch.tensor([0, 0, 1]), temperature=1.0)
    apart = info_nce(query, query, torch.tensor([0, 2, 1]), temperature=1.0)
    by_hand = 2 * -math.log(math.e / (math.e + 1)) - math.log(math.e / (math.e + 2))  # two see one stranger, one sees two
    assert float(alike) == pytest.approx(by_hand, rel=1e-6) and float(apart) > float(alike)


def test_shorter_lengths_share_the_loss():
    """The mean over lengths of the loss of the first numbers, renormed (arXiv:2205.13147, equation 1 with equal weights)."""
    torch.manual_seed(0)
    vectors = torch.randn(6, 8)

    class Body:
        def pooled(self, ids, documents, marked):
            return vectors

    objective = built("contrast", dims=[2, 4], both_ways=False, temperature=0.3)
    parts = [place_at([1, 2], False, number // 2, 1.0) for number in range(6)]
    batch = pack(objective, list(enumerate(parts)), row_tokens=12)
    groups = torch.arange(3)
    wanted = np.mean([float(info_nce(vectors[::2, :dim], vectors[1::2, :dim], groups, 0.3)) for dim in (2, 4, 8)])
    assert batch.target_count == 6
    assert float(objective.loss_sum(Body(), batch)) == pytest.approx(2 * wanted, rel=1e-6)  # a pair has two targets


def test_a_regression_counts_deviations():
    objective = built("regress")
    documents = [Document("i", "s", "p", 1, "x", sample={"label": label}) for label in ("1", "3", "8")]
    found = objective.learn(documents)
    assert (found["mean"], found["deviation"]) == (4.0, pytest.approx(math.sqrt(26 / 3)))


def test_texts_of_one_label_are_partners_in_turn():
    groups = np.array([0, 1, 0, 1, 0, 2])
    objective = built("contrast")
    objective.by_label = True
    first, again, later = (objective.partners(groups, epoch, 7) for epoch in (0, 0, 1))
    assert (first == again).all() and (groups[first] == groups).all() and sorted(first) == list(range(6))
    assert (first[:5] != np.arange(5)).all() and (first != later).any()
    objective.by_label = False
    assert objective.partners(groups, 0, 7) is None and isinstance(objective, Contrast)
