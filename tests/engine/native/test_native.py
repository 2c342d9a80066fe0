"""The native step computes what the torch model computes, and a sequence's bits are its own."""

import platform
from pathlib import Path

import numpy as np
import pytest
import torch

from danlu.engine.adapters import Adapter
from danlu.engine.native import matrix
from danlu.engine.native.matrix import FORMATS, pack, product_plain, rounded
from danlu.engine.runners.native import NativeRunner, unfit
from danlu.engine.work import Piece, RowFault
from danlu.models import MODELS
from danlu.nn.quant import Quantised, dequantised, quantise_int4, quantise_int8

if matrix.library() is None:
    pytest.skip("needs a C compiler, and DANLU_KERNELS not 0", allow_module_level=True)

FAMILIES = {
    "llama": {},
    "llama ": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "hidden_size": 36, "head_dim": 6},
    "mistral": {"sliding_window": 5},
    "qwen2": {},
    "qwen3": {"use_sliding_window": True, "sliding_window": 19, "max_window_layers": 1, "head_dim": 34},
    "phi3": {"partial_rotary_factor": 0.6},
    "gemma": {},
}
IDS = (np.arange(47) * 7 % 31).astype(np.int64)


def model(family, **changes):
    made = MODELS[family.strip()].tiny(**{**FAMILIES[family], **changes}).eval()
    with torch.no_grad():
        for part in made.parameters():
            if part.dim() == 1:  # norms' gains and biases, which start at one and zero
                part += torch.linspace(-0.3, 0.3, len(part))
    return made


def read(runner, cuts, ids=IDS, row=0, blocks=None, others=(), want=1, adapter=None):
    """Logits of every token, read in the given pieces, beside other rows' pieces."""
    blocks = np.arange(8, dtype=np.int32) if blocks is None else np.array(blocks, np.int32)
    at, found = 0, []
    for size in cuts:
        piece = Piece(row, ids[at : at + size], at, blocks, size, adapter)
        found.append(runner.run([*others, piece])[-1])
        at += size
    return np.concatenate(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_agrees_with_the_torch_model(family):
    torch_model = model(family)
    with torch.no_grad():
        exact = torch_model(torch.from_numpy(IDS)[None])[0].numpy()
    found = read(NativeRunner(torch_model, blocks=8), [47])
    assert np.abs(found - exact).max() <= 1e-4 * np.abs(exact).max()


FORMS = [(form, cache) for form in FORMATS for cache in ("fp32", "int8" if form.startswith("int") else "bf16")]


@pytest.mark.parametrize(("weights", "cache"), FORMS)
@pytest.mark.parametrize("family", ["llama ", "qwen3"])
def test_bits_do_not_depend_on_cuts_neighbours_or_threads(family, weights, cache):
    torch_model = model(family)
    whole = read(NativeRunner(torch_model, weights, cache=cache, blocks=8), [47])
    runner = NativeRunner(torch_model, weights, cache=cache, blocks=8 + 15 * 4, threads=2)
    others = [Piece(1 + i, IDS[i : i + 1 + 3 * i], 0, np.arange(8 + 4 * i, 12 + 4 * i, dtype=np.int32), i % 2) for i in range(15)]
    for cuts in ([47], [1] * 47, [5] * 9 + [2], [16, 16, 15], [2, 3, 7, 33, 2]):
        assert np.array_equal(read(runner, cuts), whole), cuts
        assert np.array_equal(read(runner, cuts, blocks=[5, 2, 7], others=others), whole), cuts


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("outputs", "inputs"), [(70, 100), (32, 64), (5, 7), (129, 257)])
def test_products_agree_with_their_definition(form, outputs, inputs):
    torch.manual_seed(0)
    weight, bias, x = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(64, inputs)
    x[3] = 0
    small = rounded(weight, form)
    packed = pack(small, bias)
    exact = product_plain(x, small, bias)
    found = packed.product(x)
    assert (found - exact).abs().max() <= 2e-5 * exact.abs().max()
    for rows in (1, 2, 3, 7, 16, 33):
        assert torch.equal(packed.product(x[:rows]), found[:rows])
        assert torch.equal(packed.product(x[64 - rows :], threads=2), found[64 - rows :])
    one = torch.stack([packed.row(output) for output in range(outputs)])
    zero_bias = product_plain(torch.eye(inputs), small).t() if form in ("fp32", "bf16") else None
    assert zero_bias is None or torch.equal(one, zero_bias)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("group", [32, 64, 128, None])
@pytest.mark.parametrize("symmetric", [True, False])
def test_products_of_every_kind_of_code(bits, group, symmetric):
    torch.manual_seed(1)
    weight, x = torch.randn(40, 200), torch.randn(9, 200)
    small = quantise_int8(weight, group) if bits == 8 else quantise_int4(weight, group or 200, symmetric)
    exact = product_plain(x, small)
    assert (pack(small).product(x) - exact).abs().max() <= 2e-5 * exact.abs().max()


def plainly(torch_model, form):
    """The model with every product as its definition says."""
    for name, part in torch_model.named_modules():
        if type(part).__name__ in ("Embedding", "Linear"):
            table = name.endswith(("embed_tokens", "lm_head"))
            small = rounded(part.weight.detach(), "int8" if table and form == "int4" else form)
            part.weight.data = dequantised(small) if isinstance(small, Quantised) else small.float()
            if name.endswith("_proj"):
                part.forward = lambda x, small=small: product_plain(x[0], small)[None]
            if name == "lm_head":
                torch_model.logits = lambda x, small=small: product_plain(x[0], small)
    return torch_model


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_step_agrees_with_its_definition(form, monkeypatch):
    changes = {"tie_word_embeddings": False, "hidden_size": 60, "intermediate_size": 72}
    found = read(NativeRunner(model("llama", **changes), form, blocks=8), [47])
    monkeypatch.setattr("danlu.nn.kernels.usable", lambda *_: False)  # the fused passes read weights themselves
    with torch.no_grad():
        exact = plainly(model("llama", **changes), form)(torch.from_numpy(IDS)[None]).numpy()
    off = np.abs(found - exact).max() / np.abs(exact).max()
    assert off <= (1e-4 if form == "fp32" else 0.02), off  # where a product is rounded, the least difference may become a step


@pytest.mark.parametrize("cache", ["bf16", "int8"])
def test_a_small_memory_changes_little(cache):
    torch_model = model("qwen3")
    exact, found = (read(NativeRunner(torch_model, cache=form, blocks=8), [47]) for form in ("fp32", cache))
    assert 0 < np.abs(found - exact).max() <= 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_adapters_apply_to_their_own_rows(family):
    torch.manual_seed(2)
    plain, tuned, parts = model(family), model(family), {}
    with torch.no_grad():
        for name, part in tuned.named_modules():
            if name.endswith("_proj"):
                down, up = torch.randn(3, part.weight.size(1)) * 0.2, torch.randn(part.weight.size(0), 3) * 0.2
                parts[name] = (down.numpy(), up.numpy(), 0.5)
                part.weight += 0.5 * up @ down
        exact = [one(torch.from_numpy(IDS)[None])[0].numpy() for one in (plain, tuned)]
    runner = NativeRunner(plain, blocks=8, adapters={"tuned": Adapter(Path("tuned"), parts)})
    blocks = np.arange(8, dtype=np.int32).reshape(2, 4)
    found = runner.run([Piece(0, IDS, 0, blocks[0], 47), Piece(1, IDS, 0, blocks[1], 47, "tuned")])
    for got, want in zip(found, exact, strict=True):
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
    assert np.array_equal(read(runner, [7] * 6 + [5], adapter="tuned"), found[1])


def test_long_steps_are_cut_and_want_what_was_wanted():
    torch_model = model("llama", max_position_embeddings=1400)
    ids = (np.arange(1300) * 11 % 31).astype(np.int64)
    blocks = np.arange(82, dtype=np.int32)
    runner = NativeRunner(torch_model, blocks=164)
    beside = Piece(1, ids[:100], 0, blocks[:7] + 82, 2)
    small, long = runner.run([beside, Piece(0, ids, 0, blocks, 800)])
    with torch.no_grad():
        exact = torch_model(torch.from_numpy(ids)[None])[0].numpy()
    assert small.shape == (2, 31) and np.abs(long - exact[500:]).max() <= 2e-4 * np.abs(exact).max()
    assert np.abs(small - exact[98:100]).max() <= 2e-4 * np.abs(exact).max()


def test_weights_are_released_when_asked():
    torch_model = model("llama")
    runner = NativeRunner(torch_model, "int8", blocks=1, release=True)
    assert sum(part.numel() for part in torch_model.parameters() if part.dim() == 2) == 0
    assert np.isfinite(read(runner, [16], blocks=[0])).all()


def test_what_cannot_be_computed_is_said():
    assert "gpt2" in unfit(MODELS["gpt2"].tiny())
    runner = NativeRunner(model("llama"), blocks=4)
    with pytest.raises(RowFault, match="not among the 31"):
        runner.run([Piece(7, np.array([31]), 0, np.array([0], np.int32), 1)])
    with pytest.raises(RowFault, match="context"):
        runner.run([Piece(7, IDS[:1], 64, np.arange(5, dtype=np.int32), 1)])
    broken = model("llama")
    broken.model.embed_tokens.weight.data[5] = float("nan")
    runner = NativeRunner(broken, blocks=4)
    with pytest.raises(RowFault, match="no number") as fault:
        runner.run([Piece(1, IDS[:1], 0, np.array([0], np.int32), 1), Piece(2, np.array([5]), 0, np.array([1], np.int32), 0)])
    assert fault.value.row == 2


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for other x86-64 processors")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_other_processors_compute_the_same_definition(processor, monkeypatch):
    """Without vectors to speak of, with AVX2, and with AVX-512 that has no instructions for codes and bf16."""
    torch.manual_seed(3)
    weight, x, torch_model = torch.randn(70, 100), torch.randn(7, 100), model("qwen3")
    here = {form: pack(rounded(weight, form)).product(x) for form in FORMATS}
    monkeypatch.setattr(matrix, "_FLAGS", tuple(f"-march={processor}" if "-march" in flag else flag for flag in matrix._FLAGS))
    matrix.library.cache_clear()
    try:
        for form in FORMATS:
            small = rounded(weight, form)
            found, exact = pack(small).product(x), product_plain(x, small)
            assert max((found - other).abs().max() for other in (exact, here[form])) <= 2e-5 * exact.abs().max()
            assert torch.equal(pack(small).product(x[2:3]), found[2:3])
        with torch.no_grad():
            exact = torch_model(torch.from_numpy(IDS)[None])[0].numpy()
        found = read(NativeRunner(torch_model, blocks=8), [47])
        assert np.abs(found - exact).max() <= 1e-4 * np.abs(exact).max()
        assert np.array_equal(read(NativeRunner(torch_model, blocks=8), [5] * 9 + [2]), found)
    finally:
        matrix.library.cache_clear()
