"""Laws of every masked family on the shelf; a new file is enrolled by existing."""

import pytest
import torch
import torch.nn.functional as F

from danlu.models import MODELS
from danlu.models.base import MaskedLM
from danlu.models.precision import mixed
from tests.models.test_families import ids, tiny

MASKED = [name for name in MODELS.names() if issubclass(MODELS[name], MaskedLM)]


def test_the_encoders_are_found_by_their_files():
    assert {"bert", "roberta", "modernbert"} <= set(MASKED)


@pytest.mark.parametrize("family", MASKED)
def test_every_token_sees_both_ways_its_whole_document(family):
    model, tokens = tiny(family), ids(1, 9)
    for changed in (0, 8):
        other = tokens.clone()
        other[0, changed] = (other[0, changed] + 1) % 31
        moved = (model(tokens) - model(other)).abs().amax(-1)[0]
        assert (moved > 1e-5).all()


@pytest.mark.parametrize("family", MASKED)
def test_packed_documents_equal_each_alone(family):
    """Rows of one, two and four documents together, so that every path is taken."""
    model, tokens = tiny(family), ids(3, 12)
    lengths = [[12], [5, 7], [1, 4, 4, 3]]
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(row)) * 2, torch.tensor(row)) for row in lengths])
    alone = torch.stack([
        torch.cat([model(part[None])[0] for part in row.split(parts)]) for row, parts in zip(tokens, lengths, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(model(tokens, documents_BT=documents.int()), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", [name for name in MASKED if MODELS[name].long_rows])
def test_documents_end_to_end_in_one_row_longer_than_the_context_equal_each_alone(family):
    model, tokens, lengths = tiny(family), ids(1, 150), [40, 9, 60, 3, 38]
    documents = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths))[None].int()
    assert model.config.context < 150
    alone = torch.cat([model(part[None])[0] for part in tokens[0].split(lengths)])
    torch.testing.assert_close(model(tokens, documents_BT=documents)[0], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", MASKED)
def test_a_document_does_not_leak_into_its_neighbours(family):
    """Also no gradient flows from one document's loss to another document's tokens."""
    model, tokens = tiny(family), ids(2, 12)
    documents = torch.tensor([[0] * 5 + [1] * 7, [4] * 12])
    other = tokens.clone()
    other[0, 5:] = (other[0, 5:] + 1) % 31
    before, after = (model(part, documents_BT=documents) for part in (tokens, other))
    torch.testing.assert_close(before[0, :5], after[0, :5], rtol=0, atol=0)
    torch.testing.assert_close(before[1], after[1], rtol=0, atol=0)
    assert (before[0, 5:] - after[0, 5:]).abs().max() > 1e-3

    fresh = torch.tensor([[1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16, 17]])  # no token in both documents
    model.hidden(fresh, documents_BT=documents[:1])[0, :5].square().sum().backward()
    moved = model.embedding.grad.abs().sum(1) > 0
    assert not moved[11:18].any() and moved[1:6].all()


@pytest.mark.parametrize("family", MASKED)
def test_the_loss_is_cross_entropy_of_the_labelled_tokens(family):
    model, tokens = tiny(family), ids(2, 7)
    targets = tokens.clone()
    targets[:, ::3] = -100
    found = model.cross_entropy_sum(model.hidden(tokens).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(found, F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten(), reduction="sum"))
    none = model.cross_entropy_sum(model.hidden(tokens).flatten(0, 1), torch.full((14,), -100))
    none.backward()
    assert none.item() == 0.0


@pytest.mark.parametrize("family", MASKED)
def test_sizes_of_a_budget_make_a_model(family):
    """Twice: the context asked for is there whatever the family calls it, and one more token than its places is refused."""
    config = MODELS[family].Config
    model = MODELS[family](config(vocab_size=31, **config.sized(width=24, inner=64, layers=2, heads=3, context=16)))
    assert (model.config.width, model.config.depth) == (24, 2) and model.config.context >= 16
    assert model.config.ties and model(torch.full((1, 16), 3)).shape == (1, 16, 31)


@pytest.mark.parametrize("family", MASKED)
def test_short_products_stay_close_and_gradients_stay_wide(family):
    model, tokens = MODELS[family].tiny(initializer_range=0.05), ids(3, 11)

    def loss():
        return model.cross_entropy_sum(model.hidden(tokens).flatten(0, 1), tokens.flatten())

    exact = loss()
    with mixed(model, torch.bfloat16):
        rounded = loss()
        assert model.hidden(tokens).dtype == torch.bfloat16
        rounded.backward()
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.0)
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
