"""Freezing by name: those that a glob fits stay as they are, and a glob that fits nothing is answered with near names."""

import pytest

from danlu.core.errors import BadSettings
from danlu.models import MODELS
from danlu.models.freeze import freeze


def learning(model):
    return [name for name, part in model.named_parameters() if part.requires_grad]


def test_globs_freeze_what_they_fit():
    model = MODELS["llama"].tiny(num_hidden_layers=3)
    every = learning(model)
    frozen = freeze(model, ["model.layers.[0-1].*", "model.embed_tokens.weight"])
    assert frozen == [name for name in every if name.startswith(("model.layers.0.", "model.layers.1.", "model.embed"))]
    assert learning(model) == [name for name in every if name not in frozen]
    assert freeze(model, []) == []


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        (["model.layers.9.*"], r"no parameter of the model fits.*model\.layers\.[01]\.\*"),
        (["*.q_prj.weight", "model.norm.weight"], r"q_prj"),
        (["model.*"], "leaves nothing to learn"),
    ],
)
def test_a_pattern_that_fits_nothing_or_all_freezes_nothing(patterns, said):
    model = MODELS["llama"].tiny()
    with pytest.raises(BadSettings, match=said):
        freeze(model, patterns)
    assert len(learning(model)) == len(list(model.parameters()))
