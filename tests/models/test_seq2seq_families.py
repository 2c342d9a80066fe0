"""Laws of every encoder-decoder on the shelf; a new file is enrolled by existing."""

import pytest
import torch
import torch.nn.functional as F

from danlu.models import MODELS
from danlu.models.base import Seq2SeqLM
from danlu.models.plan import blocks
from danlu.models.precision import mixed
from danlu.models.weights import load_model, save_model
from tests.models.test_families import ids, tiny

SEQ2SEQ = [name for name in MODELS.names() if issubclass(MODELS[name], Seq2SeqLM)]


def numbered(*lengths, first=0):
    """Documents of the given lengths in one row."""
    return torch.repeat_interleave(torch.arange(first, first + len(lengths)), torch.tensor(lengths))[None].int()


def test_the_encoder_decoders_are_found_by_their_files():
    assert {"t5", "bart", "marian"} <= set(SEQ2SEQ)


@pytest.mark.parametrize("family", SEQ2SEQ)
@pytest.mark.parametrize("steps", [[1] * 11, [3, 1, 5, 2], [11]])
def test_decoding_in_any_steps_equals_all_at_once(family, steps):
    model, tokens, source = tiny(family), ids(2, 11), ids(2, 5, seed=1)
    state, encoded = model.new_state(batch=2, capacity=4), model.encode(source)
    found = []
    for part in tokens.split(steps, dim=1):
        found.append(model.logits(model.hidden(part, source_BSD=encoded, state=state)))
        encoded = None  # the state holds it from the first step on
    torch.testing.assert_close(torch.cat(found, 1), model(tokens, source_BS=source), rtol=1e-4, atol=1e-5)
    assert state.length == 11


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_a_cropped_and_reordered_state_goes_on_with_its_own_sources(family):
    """Also with sources of unlike lengths: filling behind the shorter ones is a document of its own, and never seen."""
    model, tokens, source = tiny(family), ids(3, 9), ids(3, 6, seed=1)
    filling = torch.tensor([[0, 0, 0, 0, 1, 1], [0] * 6, [0, 0, 1, 1, 1, 1]])
    state = model.new_state(batch=3, capacity=16)
    model.hidden(tokens, source_BSD=model.encode(source, documents_BS=filling), source_documents_BS=filling, state=state)
    state.crop(5)
    state.reorder(torch.tensor([2, 0, 0]))
    rest = ids(3, 4, seed=5)
    found = model.logits(model.hidden(rest, state=state))
    for row, origin in enumerate((2, 0, 0)):
        whole = torch.cat([tokens[origin, :5], rest[row]])[None]
        alone = model(whole, source_BS=source[origin : origin + 1, : (4, 6, 2)[origin]])
        torch.testing.assert_close(found[row], alone[0, 5:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_the_future_changes_nothing_and_every_source_token_changes_everything(family):
    model, tokens, source = tiny(family), ids(1, 9), ids(1, 6, seed=1)
    later = tokens.clone()
    later[:, 5:] = (later[:, 5:] + 1) % 31
    before = model(tokens, source_BS=source)
    torch.testing.assert_close(before[:, :5], model(later, source_BS=source)[:, :5], rtol=0, atol=1e-6)
    for place in (0, 5):
        other = source.clone()
        other[0, place] = (other[0, place] + 1) % 31
        assert ((before - model(tokens, source_BS=other)).abs().amax(-1) > 1e-5).all()


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_packed_pairs_equal_each_alone(family):
    model, tokens, source = tiny(family), ids(1, 12), ids(1, 9, seed=1)
    lengths, sources = (4, 1, 7), (2, 6, 1)
    packed = model(
        tokens, source_BS=source, documents_BT=numbered(*lengths, first=3), source_documents_BS=numbered(*sources, first=3)
    )
    pairs = zip(tokens.split(lengths, 1), source.split(sources, 1), strict=True)
    alone = torch.cat([model(part, source_BS=read) for part, read in pairs], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_a_pair_does_not_leak_into_the_next(family):
    """Neither through values nor through gradients."""
    model, read, write = tiny(family), numbered(3, 4), numbered(5, 2)
    tokens, source = torch.tensor([[1, 2, 3, 4, 5, 11, 12]]), torch.tensor([[6, 7, 8, 13, 14, 15, 16]])
    before = model(tokens, source_BS=source, documents_BT=write, source_documents_BS=read)
    other = source.clone()
    other[0, :3] += 12
    after = model(tokens, source_BS=other, documents_BT=write, source_documents_BS=read)
    torch.testing.assert_close(before[0, 5:], after[0, 5:], rtol=0, atol=0)
    assert (before[0, :5] - after[0, :5]).abs().max() > 1e-3
    encoded = model.encode(source, documents_BS=read)
    hidden = model.hidden(tokens, source_BSD=encoded, documents_BT=write, source_documents_BS=read)
    hidden[0, 5:].square().sum().backward()
    moved = model.embedding.grad.abs().sum(1) > 0
    assert not moved[1:9].any() and moved[11:17].all()


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_a_document_without_a_source_sees_nothing_and_has_numbers(family):
    model, tokens, source = tiny(family), ids(1, 6), ids(1, 4, seed=1)
    write, read = numbered(4, 2), numbered(4)
    found = model(tokens, source_BS=source, documents_BT=write, source_documents_BS=read)
    other = model(tokens, source_BS=(source + 1) % 31, documents_BT=write, source_documents_BS=read)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, 4:], other[0, 4:], rtol=0, atol=0)
    found.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_what_makes_no_sense_is_refused(family):
    model, encoded = tiny(family), tiny(family).encode(ids(1, 4))
    with pytest.raises(ValueError, match="no source"):
        model.hidden(ids(1, 3))
    with pytest.raises(ValueError, match="source_documents_BS"):
        model.hidden(ids(1, 3), source_BSD=encoded, documents_BT=numbered(1, 2))
    state = model.new_state(1, 8)
    model.hidden(ids(1, 3), source_BSD=encoded, state=state)
    with pytest.raises(ValueError, match="not both"):
        model.hidden(ids(1, 3), documents_BT=numbered(1, 2), state=state)


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_the_loss_is_cross_entropy_of_the_labelled_tokens(family):
    model, tokens, targets = tiny(family), ids(2, 7), ids(2, 7, seed=4)
    targets[0, :3] = -100
    if "final_logits_bias" in dict(model.named_buffers()):
        model.final_logits_bias.copy_(torch.linspace(-1, 1, 31))
    hidden = model.hidden(tokens, source_BSD=model.encode(ids(2, 5)))
    wanted = F.cross_entropy(model.logits(hidden).flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    torch.testing.assert_close(model.cross_entropy_sum(hidden.flatten(0, 1), targets.flatten()), wanted)


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_short_products_stay_close_and_the_stream_stays_wide(family):
    model, tokens, source = MODELS[family].tiny(initializer_range=0.05 if family != "t5" else 0.5), ids(3, 11), ids(3, 7, seed=1)

    def loss():
        return model.cross_entropy_sum(model.hidden(tokens, source_BSD=model.encode(source)).flatten(0, 1), tokens.flatten())

    exact = loss()
    with mixed(model, torch.bfloat16):
        rounded = loss()
        state = model.new_state(3, 4)
        model.hidden(tokens, source_BSD=model.encode(source), state=state)
        assert {tensor.dtype for tensor in state.layers[0].tensors().values()} == {torch.bfloat16}
        rounded.backward()
    assert rounded.item() != exact.item()
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=0.0)
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_both_stacks_are_found_as_blocks(family):
    model = tiny(family)
    names = [name for name, _ in blocks(model)]
    assert len(names) == len(set(names)) == model.config.depth


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_the_token_that_opens_an_answer_is_written_where_others_look(family, tmp_path):
    import json

    save_model(MODELS[family].tiny(decoder_start_token_id=7), tmp_path)
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / name).read_text())["decoder_start_token_id"] == 7
    assert load_model(tmp_path).config.decoder_start_token_id == 7


@pytest.mark.parametrize("family", ["bart", "marian"])
def test_only_a_document_can_be_too_long_not_a_row_of_several(family):
    model, long = tiny(family), ids(1, 70)
    assert model.encode(long, documents_BS=numbered(30, 40)).shape == (1, 70, model.config.width)
    with pytest.raises(ValueError, match="70 tokens in a row, but this model has 64 positions"):
        model.encode(long)
