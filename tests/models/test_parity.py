"""Logits and gradients of each causal family equal transformers', in both directions of the folder."""

import json

import pytest
import torch
import torch.nn.functional as F

from danlu.models.base import CausalLM
from danlu.models.weights import load_model, save_model
from tests.models.reference import assert_close, cases, ours, theirs, tokens

CASES = cases(CausalLM)


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_logits_and_gradients_equal_transformers_on_the_folder_we_wrote(family, changes, tmp_path):
    mine = ours(family, changes)
    save_model(mine, tmp_path)
    reference = theirs(family, tmp_path)
    ids = tokens()
    assert_close(mine(ids), reference(ids).logits)

    targets = ids.roll(-1, 1)
    targets[:, -1] = -100
    mine.cross_entropy_sum(mine.hidden(ids).flatten(0, 1), targets.flatten()).backward()
    theirs_logits = reference(ids, use_cache=False).logits  # one family writes its memory in place
    F.cross_entropy(theirs_logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    wanted = {mine.name_here(name): parameter for name, parameter in reference.named_parameters()}
    for name, parameter in mine.named_parameters():
        if not (name.endswith("k_proj.bias") or wanted[name].grad.abs().max() < 1e-6):  # a key bias moves no softmax but by rope
            assert_close(parameter.grad, wanted[name].grad)
        else:
            torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-3, atol=1e-4)
    assert {name for name, _ in mine.named_parameters()} == set(wanted)


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_a_folder_that_transformers_wrote_loads_here_with_the_same_logits(family, changes, tmp_path):
    first, second = tmp_path / "ours", tmp_path / "theirs"
    first.mkdir()
    save_model(ours(family, changes), first)
    reference = theirs(family, first)
    reference.save_pretrained(second)
    config = json.loads((second / "config.json").read_text())
    assert "transformers_version" in config
    mine = load_model(second)
    assert_close(mine(tokens()), reference(tokens()).logits)


@pytest.mark.parametrize(("family", "changes"), CASES)
def test_packed_documents_equal_transformers_on_each_alone(family, changes, tmp_path):
    mine = ours(family, changes)
    save_model(mine, tmp_path)
    reference = theirs(family, tmp_path)
    ids, lengths = tokens(1, 17), (5, 2, 10)
    documents = torch.repeat_interleave(torch.tensor([3, 4, 9]), torch.tensor(lengths))[None]
    alone = torch.cat([reference(part).logits for part in ids.split(lengths, dim=1)], dim=1)
    assert_close(mine(ids, documents_BT=documents), alone)
