"""The packed runner: every family that it serves gives the logits of its own forward, whatever else is in the step."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.runners.mixed import CAUSAL, CUTS, close, opened, play, tables, texts, whole

from danlu.engine.model import Model
from danlu.engine.runners.packed import PackedRunner, block_bytes, unfit
from danlu.engine.shrink import shrunk
from danlu.engine.work import Piece, RowFault
from danlu.nn.quant import quantise_int8
from danlu.nn.small_linear import SmallLinear

DIVISIBLE = {"hidden_size": 96, "intermediate_size": 64, "head_dim": 16}
"""Sizes that 4 bits divide into their blocks."""
SIZES = {
    "deepseek_v3": {"hidden_size": 96, "intermediate_size": 64, "kv_lora_rank": 32},
    "gpt2": {"n_embd": 96, "n_inner": 64}, "bloom": {"hidden_size": 96}, "gpt_neox": {"hidden_size": 96, "intermediate_size": 64},
}  # fmt: skip
FIT = [name for name in CAUSAL if unfit(opened(name)) is None]


def test_who_is_served_and_why_others_are_not():
    assert {
        "llama",
        "qwen3",
        "gpt2",
        "gpt_neox",
        "bloom",
        "gemma",
        "gemma2",
        "gemma3",
        "mixtral",
        "phi3",
        "sprint",
        "deepseek_v3",
    } <= set(FIT)
    assert "RecurrentState" in unfit(opened("bamba")) and "RecurrentState" in unfit(opened("mamba"))
    assert "left to right" in unfit(opened("t5")) and "left to right" in unfit(opened("bert"))
    llama = opened("llama")
    assert "both ways" in unfit(Model(llama.model, None, llama.path, both_ways=True))
    with pytest.raises(ValueError, match="RecurrentState"):
        PackedRunner(opened("rwkv"), blocks=4)


@pytest.mark.parametrize("family", FIT)
@pytest.mark.parametrize("block_tokens", [3, 32])
def test_steps_of_mixed_pieces_equal_each_sequence_alone(family, block_tokens):
    model, ids = opened(family), texts()
    runner = PackedRunner(model, blocks=80, block_tokens=block_tokens)
    close(play(runner, ids, tables(block_tokens, 80)), whole(model, ids))


@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gemma3", "mistral", "phi3"])
def test_windows_shorter_than_the_text_and_than_a_block(family):
    windowed = {"qwen2": {"use_sliding_window": True, "max_window_layers": 1}}.get(family, {})
    model, ids = opened(family, sliding_window=3, **windowed), texts()
    assert 3 in model.model.config.windows
    for block_tokens in (2, 16):
        runner = PackedRunner(model, blocks=40, block_tokens=block_tokens)
        close(play(runner, ids, tables(block_tokens, 40)), whole(model, ids))


def test_frequencies_that_depend_on_the_length_are_those_of_the_whole_context():
    scaling = {"rope_type": "dynamic", "factor": 2.0}
    model, ids = opened("llama", rope_scaling=scaling, max_position_embeddings=16), texts()
    runner = PackedRunner(model, blocks=40, block_tokens=4)
    wanted = {}
    with torch.inference_mode():
        for row, text in ids.items():
            wanted[row] = model.model(torch.from_numpy(text)[None], state=model.model.new_state(1, model.context))[0].numpy()
    close(play(runner, ids, tables(4, 40)), wanted)


@pytest.mark.parametrize("family", FIT)
def test_only_the_logits_that_are_wanted(family):
    model, ids = opened(family), texts()
    full = play(PackedRunner(model, 40, 4), ids, tables(4, 40))
    some = play(PackedRunner(model, 40, 4), ids, tables(4, 40), wants=2)
    for row, cuts in CUTS.items():
        kept = np.concatenate([np.arange(end - min(2, size), end) for size, end in zip(cuts, np.cumsum(cuts), strict=True)])
        np.testing.assert_allclose(some[row], full[row][kept], rtol=1e-5, atol=1e-5)
    none = PackedRunner(model, 40, 4).run([Piece(0, ids[7], 0, tables(4, 40)[7], 0)])
    assert none[0].shape == (0, 31)


@pytest.mark.parametrize("family", FIT)
def test_a_sequence_changes_nothing_of_its_neighbours(family):
    model, ids, blocks = opened(family), texts(), tables(4, 40)
    before = play(PackedRunner(model, 40, 4), ids, blocks)
    after = play(PackedRunner(model, 40, 4), {**ids, 30: (ids[30] + 1) % 31}, blocks)
    for row in (7, 2, 4):  # a mixture's experts round by how many tokens they get
        np.testing.assert_allclose(after[row], before[row], rtol=0, atol=5e-6 if hasattr(model.model, "mixtures") else 0)
    assert np.abs(after[30] - before[30]).max() > 1e-3


@pytest.mark.parametrize("family", FIT)
def test_wrong_guesses_are_written_over(family):
    model, text, blocks = opened(family), texts()[30], tables(4, 40)[30]
    runner = PackedRunner(model, 40, 4)
    runner.run([Piece(3, text[:9], 0, blocks, 1)])
    runner.run([Piece(3, (text[9:14] + 1) % 31, 9, blocks, 5)])
    assert runner.rewind(3, 10)
    wrong = np.concatenate([text[:9], (text[9:10] + 1) % 31, text[10:]])
    found = runner.run([Piece(3, text[10:], 10, blocks, len(text) - 10)])[0]
    np.testing.assert_allclose(found, whole(model, {0: wrong})[0][10:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FIT)
def test_a_prefix_in_shared_blocks_is_read_by_both(family):
    """The second sequence begins behind blocks that the first has filled; its runner never saw those tokens as its own."""
    model, text = opened(family), texts()[30]
    runner = PackedRunner(model, 40, 4)
    runner.run([Piece(1, text[:8], 0, np.array([5, 2], np.int32), 0)])
    pair = [
        Piece(1, text[8:12], 8, np.array([5, 2, 9], np.int32), 4),
        Piece(2, text[12:16], 8, np.array([5, 2, 0], np.int32), 4),
    ]
    first, second = runner.run(pair)
    np.testing.assert_allclose(first, whole(model, {0: text[:12]})[0][8:], rtol=1e-4, atol=1e-4)
    other = np.concatenate([text[:8], text[12:16]])
    np.testing.assert_allclose(second, whole(model, {0: other})[0][8:], rtol=1e-4, atol=1e-4)


def test_a_fault_names_its_row_and_the_others_go_on():
    model, ids, blocks = opened("gpt2"), texts(), tables(4, 40)
    runner = PackedRunner(model, 40, 4)
    good = Piece(2, ids[2], 0, blocks[2], 1)
    wanted = whole(model, {2: ids[2]})[2][-1:]
    bad = [
        (Piece(5, np.array([31]), 0, blocks[4], 1), "not among the 31"),
        (Piece(6, np.array([1]), 64, np.zeros(17, np.int32), 1), "context of 64"),
    ]
    for piece, why in bad:
        with pytest.raises(RowFault, match=why) as fault:
            runner.run([good, piece])
        assert fault.value.row == piece.row
        np.testing.assert_allclose(runner.run([good])[0], wanted, rtol=1e-4, atol=1e-4)


def test_what_is_no_number_ends_its_row_and_does_not_stay_in_the_blocks():
    model, ids, blocks = opened("llama"), texts(), tables(4, 40)
    with torch.no_grad():
        model.model.embedding[30] = torch.inf
    runner = PackedRunner(model, 40, 4)
    clean = np.where(ids[30] == 30, 1, ids[30])
    with pytest.raises(RowFault, match="no number") as fault:
        runner.run([Piece(8, clean, 0, blocks[30], 1), Piece(9, np.array([1, 30, 2, 3, 4]), 0, blocks[7], 1)])
    assert fault.value.row == 9
    pieces = [Piece(8, clean[:3], 0, blocks[7], 1), Piece(4, clean[:9], 0, blocks[30], 1)]  # the same blocks, for others
    runner.run(pieces)
    found = runner.run([Piece(8, clean[3:4], 3, blocks[7], 1), Piece(4, clean[9:10], 9, blocks[30], 1)])
    np.testing.assert_allclose(found[0], whole(model, {0: clean[:4]})[0][3:], rtol=1e-4, atol=1e-4)


def test_the_bytes_of_a_block_are_those_of_the_pools():
    for family in ("llama", "gemma3", "gpt2", "deepseek_v3"):
        model = opened(family)
        state = PackedRunner(model, 10, 8)._state
        assert state.bytes == 10 * block_bytes(model, 8)


@pytest.mark.parametrize("family", FIT)
@pytest.mark.parametrize("form", ["int8", "int4"])
def test_few_bits_compute_what_their_codes_mean(family, form, monkeypatch):
    """The plain twin of torch's kernels: inputs and outputs in bfloat16, the codes as float32 matrices."""
    model, ids = opened(family, **SIZES.get(family, DIVISIBLE)), texts()
    small = shrunk(model.model, form)
    assert sum(isinstance(layer, SmallLinear) for layer in small.modules()) >= 2 * model.model.config.depth
    found = play(PackedRunner(model, 40, 4, weights=form), ids, tables(4, 40))
    plain = whole(model, ids)
    monkeypatch.setattr(SmallLinear, "packed", lambda self, x: F.linear(x.bfloat16().float(), self.weight).bfloat16())
    wanted = play(PackedRunner(model, 40, 4, weights=form), ids, tables(4, 40))
    size = np.abs(np.concatenate([*plain.values()])).max()
    for row in CUTS:
        np.testing.assert_allclose(found[row], wanted[row], rtol=0, atol=0.03 * size)
        assert np.abs(found[row] - plain[row]).max() > 0


def test_few_bits_leave_the_model_as_it_was_and_share_the_rest():
    model = opened("llama", **DIVISIBLE)
    before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
    small = shrunk(model.model, "int4")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.model.state_dict().items())
    assert small.embedding is model.model.embedding and model.model.small_product is None
    assert not any(isinstance(layer, SmallLinear) for layer in model.model.modules())
    assert "not 96" in unfit(model, "int4", 96)
    assert "int4 in 14 of 14 matrices" in PackedRunner(model, 4, 4, weights="int4").kernel


def test_codes_of_a_folder_are_taken_as_they_are():
    model = opened("llama", **DIVISIBLE)
    name = "model.layers.1.self_attn.q_proj.weight"
    codes = {name: quantise_int8(torch.full((96, 96), 0.25))}
    small = shrunk(model.model, "int8", codes=codes)
    torch.testing.assert_close(small.model.layers[1].self_attn.q_proj.weight, torch.full((96, 96), 0.25), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    "family", [name for name in FIT if not hasattr(opened(name).model, "mixtures")]
)  # their routers may flip
def test_sixteen_bits_are_near(family):
    model, ids = opened(family), texts()
    runner = PackedRunner(model, 40, 4, weights="bf16")
    assert all(part.dtype == torch.float32 for part in model.model.parameters()) and "bfloat16" in runner.kernel
    found, wanted = play(runner, ids, tables(4, 40)), whole(model, ids)
    size = np.abs(np.concatenate([*wanted.values()])).max()
    gaps = np.concatenate([(found[row] - wanted[row]).ravel() for row in CUTS])
    assert 0 < np.sqrt(np.mean(gaps**2)) < 0.03 * size


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_any_schedule_gives_each_sequence_its_own_logits(data):
    """Sequences come, go on in pieces of any size, begin anew in blocks of others, and end in any order."""
    model, length = _scheduled(), 14
    runner, wanted = PackedRunner(model, 5 * 4, 4), {}
    rows = {row: np.random.default_rng(row).integers(0, 31, length) for row in range(5)}
    held = dict.fromkeys(rows, 0)
    blocks = {row: np.arange(4 * row, 4 * row + 4, dtype=np.int32)[::-1].copy() for row in rows}
    for _ in range(data.draw(st.integers(1, 8))):
        pieces = []
        for row in data.draw(st.lists(st.sampled_from(sorted(rows)), min_size=1, max_size=5, unique=True)):
            if held[row] == length or data.draw(st.integers(0, 9)) == 0:  # preempted: another sequence, perhaps in other blocks
                held[row], rows[row] = 0, (rows[row] + 1) % 31
                other = data.draw(st.sampled_from(sorted(rows)))
                if held[other] == 0 and all(piece.row != other for piece in pieces):
                    blocks[row], blocks[other] = blocks[other], blocks[row]
            size = data.draw(st.integers(1, length - held[row]))
            ids = rows[row][held[row] : held[row] + size]
            pieces.append(Piece(row, ids, held[row], blocks[row], size))
            wanted[row] = whole(model, {0: rows[row]})[0][held[row] : held[row] + size]
            held[row] += size
        for piece, logits in zip(pieces, runner.run(pieces), strict=True):
            np.testing.assert_allclose(logits, wanted[piece.row], rtol=1e-4, atol=1e-4)


@functools.cache
def _scheduled():
    return opened("gemma2", sliding_window=3)
