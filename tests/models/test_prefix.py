"""Prefixes are read both ways and nothing else is, in every family that reads so."""

import pytest
import torch

from danlu.models import MODELS
from danlu.models.base import CausalLM
from tests.models.reference import ours, tokens

PREFIX, LENGTH = 4, 11


def reads_prefixes(family):
    try:
        MODELS[family].tiny().hidden(tokens(1, 3), prefix_BT=torch.ones(1, 3, dtype=torch.bool))
    except ValueError:
        return False
    return True


FAMILIES = [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM) and reads_prefixes(name)]


def hidden(model, ids, prefix=PREFIX, **more):
    return model.hidden(ids, prefix_BT=(torch.arange(ids.size(1)) < prefix).expand_as(ids), **more)


def test_attention_families_read_prefixes():
    assert {"bloom", "gpt2", "gpt_neox", "llama", "mistral", "phi3", "qwen2", "qwen3"} <= set(FAMILIES)


def test_families_say_whether_they_read_prefixes():
    assert [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM) and not MODELS[name].one_way] == FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_sees_itself_whole_and_not_what_follows(family):
    model, ids = ours(family, {}), tokens(2, LENGTH)
    before = hidden(model, ids)
    for changed, moved in [(PREFIX - 1, 0), (PREFIX, PREFIX), (LENGTH - 2, LENGTH - 2)]:
        other = ids.clone()
        other[:, changed] = (other[:, changed] + 1) % 31
        difference = (hidden(model, other) - before).abs().amax((0, 2))
        assert (difference[moved : min(moved + 3, LENGTH)] > 1e-4).all() and (difference[:moved] < 1e-5).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prefix_of_one_token_is_no_prefix(family):
    model, ids = ours(family, {}), tokens(2, LENGTH)
    torch.testing.assert_close(hidden(model, ids, 1), model.hidden(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_prefixes_in_packed_documents_are_those_of_each_alone(family):
    model, ids = ours(family, {}), tokens(1, LENGTH)
    documents = torch.tensor([[0] * 6 + [1] * (LENGTH - 6)])
    prefix = torch.tensor([[True] * 3 + [False] * 3 + [True] * 2 + [False] * (LENGTH - 8)])
    packed = model.hidden(ids, documents_BT=documents, prefix_BT=prefix)
    alone = torch.cat([hidden(model, ids[:, :6], 3), hidden(model, ids[:, 6:], 2)], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_goes_on_after_a_prefix(family):
    model, ids = ours(family, {}), tokens(2, LENGTH)
    state = model.new_state(2, 3)
    parts = [
        hidden(model, ids[:, :PREFIX], state=state),
        *(model.hidden(part, state=state) for part in ids[:, PREFIX:].split(1, 1)),
    ]
    torch.testing.assert_close(torch.cat(parts, 1), hidden(model, ids), rtol=1e-4, atol=1e-5)
