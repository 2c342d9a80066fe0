"""The LSTM family equals nn.LSTM, which we did not write, on each document alone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from danlu.models.lstm import LSTM
from danlu.models.weights import load_model, save_model
from tests.models.reference import assert_close

CHANGES = [
    {},
    {"tie_word_embeddings": False, "num_hidden_layers": 3},
    {"embedding_size": None, "hidden_size": 18, "num_hidden_layers": 1},
    {"embedding_size": 35, "hidden_size": 10, "tie_word_embeddings": False},
]


def ours(changes):
    model = LSTM.tiny(**changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
    return model


class Reference(nn.Module):
    """Zaremba's model of torch's own layers, filled from the folder's tensors by their names."""

    def __init__(self, model):
        super().__init__()
        config = model.config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.token_width)
        self.lstm = nn.LSTM(config.token_width, config.hidden_size, config.num_hidden_layers, batch_first=True)
        if config.tie_word_embeddings and config.token_width != config.hidden_size:
            self.projection = nn.Linear(config.hidden_size, config.token_width, bias=False)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.load_state_dict(model.state_dict())

    def forward(self, ids):
        x, _ = self.lstm(self.embed_tokens(ids))
        x = self.projection(x) if hasattr(self, "projection") else x
        return F.linear(x, self.lm_head.weight if hasattr(self, "lm_head") else self.embed_tokens.weight)


@pytest.mark.parametrize("changes", CHANGES)
def test_packed_documents_equal_the_reference_on_each_alone_in_logits_and_gradients(changes):
    model = ours(changes)
    reference = Reference(model)
    ids = torch.randint(31, (3, 13), generator=torch.Generator().manual_seed(7))
    targets = torch.randint(31, (3, 13), generator=torch.Generator().manual_seed(8))
    lengths = [[13], [5, 2, 6], [1, 1, 7, 4]]
    documents = torch.stack([torch.repeat_interleave(torch.arange(len(row)) * 3, torch.tensor(row)) for row in lengths])
    alone = torch.stack([
        torch.cat([reference(part[None])[0] for part in row.split(parts)]) for row, parts in zip(ids, lengths, strict=True)
    ])  # fmt: skip
    assert_close(model(ids, documents_BT=documents), alone, most=1e-5)

    model.cross_entropy_sum(model.hidden(ids, documents_BT=documents).flatten(0, 1), targets.flatten()).backward()
    F.cross_entropy(alone.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    wanted = dict(reference.named_parameters())
    assert {name for name, _ in model.named_parameters()} == set(wanted)
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, wanted[name].grad, most=1e-5)


def test_memory_does_not_grow_with_the_text():
    model = ours({})
    state = model.new_state(batch=2, capacity=4)
    before = state.bytes
    model(torch.zeros(2, 50, dtype=torch.int64), state=state)
    assert state.bytes == before == 2 * 2 * 2 * 24 * 4  # rows, layers, h and c, width, float32


def test_forget_gates_begin_open_and_the_rest_closed():
    model = LSTM.tiny()
    bias = model.lstm.bias_ih_l1
    assert (bias[24:48] == 1).all() and bias[:24].abs().sum() == bias[48:].abs().sum() == 0
    assert model.lstm.bias_hh_l0.abs().sum() == 0


def test_a_prefix_that_sees_both_ways_is_refused():
    with pytest.raises(ValueError, match="left to right only"):
        LSTM.tiny().hidden(torch.zeros(1, 3, dtype=torch.int64), prefix_BT=torch.ones(1, 3, dtype=torch.bool))


def test_a_folder_keeps_the_names_of_torchs_own_layers(tmp_path):
    from safetensors.torch import load_file

    save_model(ours({}), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {"lstm.weight_ih_l0", "lstm.weight_hh_l1", "lstm.bias_ih_l1", "projection.weight"} < set(tensors)
    assert load_model(tmp_path).config == LSTM.tiny().config
