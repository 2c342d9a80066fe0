"""Latent attention: the way without keys and values equals the way with them, and the memory is as small as promised."""

from dataclasses import replace

import pytest
import torch

from danlu.models import MODELS
from danlu.nn.latent_attention import LatentAttention, LatentSizes
from danlu.nn.mask import Sight
from danlu.nn.state import LatentState

SIZES = LatentSizes(query_rank=7, rank=14, plain_width=10, turned_width=6, value_width=9)


def made(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layer():
    layer = LatentAttention(13, 3, SIZES, scale=0.3)
    for seed, parameter in enumerate(layer.parameters()):
        parameter.data = made(*parameter.shape, seed=seed) / 3
    return layer


@pytest.mark.parametrize(("start", "new"), [(0, 5), (4, 1), (4, 3)])
def test_the_absorbed_way_equals_the_expanded_one_and_so_do_its_gradients(layer, start, new):
    plain, turned = made(2, new, 3, 10, seed=1).requires_grad_(), made(2, new, 3, 6, seed=2).requires_grad_()
    held, sight = made(2, start + new, 20, seed=3).requires_grad_(), Sight(new, start)
    latent, key = held.split([14, 6], dim=-1)
    ways = [
        layer.attend_absorbed(plain, turned, held, sight),
        layer.attend_expanded(plain, turned, layer.kv_b_proj(latent), key, sight),
    ]
    torch.testing.assert_close(*ways, rtol=1e-4, atol=1e-5)
    wanted = [plain, turned, held, layer.kv_b_proj.weight]
    grads = [torch.autograd.grad((way * made(*way.shape, seed=4)).sum(), wanted, retain_graph=True) for way in ways]
    for absorbed, expanded in zip(*grads, strict=True):
        torch.testing.assert_close(absorbed, expanded, rtol=1e-4, atol=1e-5)


def test_the_cheaper_way_is_taken(layer, monkeypatch):
    """R (N + V) / (2 R - N - V) = 14 x 19 / 9 = 29.6 new tokens; a first piece of a text is always expanded."""
    assert layer.break_even == pytest.approx(14 * 19 / 9)
    taken = []
    for way in ("attend_absorbed", "attend_expanded"):
        monkeypatch.setattr(layer, way, lambda *_, way=way: taken.append(way) or torch.zeros(1, 1, 3, 9))
    for start, new in ((0, 1), (0, 40), (5, 1), (5, 29), (5, 30)):
        state = LatentState(1, 64, 20, torch.float32, "cpu")
        layer.remember(made(1, new, 3, 10), made(1, new, 3, 6), made(1, new, 14), made(1, new, 6), Sight(new, start), state)
    assert [way.removeprefix("attend_") for way in taken] == ["expanded", "expanded", "absorbed", "absorbed", "expanded"]


def test_where_absorbing_is_never_dearer_it_is_always_taken():
    assert LatentAttention(13, 3, replace(SIZES, rank=9), scale=0.3).break_even == float("inf")


def test_decoding_keeps_one_small_vector_a_token():
    """The published sizes: 576 numbers a token and layer, against 32,768 for keys and values of 128 heads of 128."""
    model = MODELS["deepseek_v3"].tiny()
    state, config = model.new_state(batch=3, capacity=5), model.config
    assert state.bytes == 4 * config.depth * 3 * 5 * (config.kv_lora_rank + config.qk_rope_head_dim)
    before = state.bytes
    model(torch.zeros(3, 11, dtype=torch.int64), state=state)
    assert state.bytes == before / 5 * 11, "it grows to what is asked, no further"


def test_a_long_answer_in_either_way_is_the_same_text(monkeypatch):
    model = MODELS["deepseek_v3"].tiny().eval()
    ids = torch.randint(31, (2, 40), generator=torch.Generator().manual_seed(0))
    both = []
    for border in (0.0, float("inf")):
        monkeypatch.setattr(LatentAttention, "break_even", border)
        state = model.new_state(2, 40)
        both.append(torch.cat([model(part, state=state) for part in ids.split([9, 1, 1, 20, 9], dim=1)], dim=1))
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-5)
