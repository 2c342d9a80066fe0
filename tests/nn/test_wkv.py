"""RWKV's recurrences agree with their definitions, gradients included, for any length and packing."""

import pytest
import torch

from danlu.nn.mask import positions
from danlu.nn.wkv import EMPTY, delta_scan, delta_scan_plain, previous, wkv, wkv_chunked, wkv_plain
from tests.nn.test_ssm import LENGTHS, agree, drawn, packed, path, results  # noqa: F401  # path is a fixture


def fading(tokens, rows=2, width=70, begun=True):
    draw = drawn()
    state = torch.stack([draw(rows, width), draw(rows, width).exp(), draw(rows, width)], 1)
    empty = torch.tensor([0.0, 0.0, EMPTY])[:, None].expand(rows, 3, width)
    return [draw(width).exp(), draw(width), 3 * draw(rows, tokens, width), draw(rows, tokens, width), state if begun else empty]


def correcting(tokens, rows=2, heads=3, keys=5, values=7):
    draw = drawn()
    r, k, kk = (draw(rows, tokens, heads, keys) for _ in range(3))
    kk = torch.nn.functional.normalize(kk, dim=-1)
    decay, rate = (-0.6 * draw(rows, tokens, heads, keys).sigmoid()).exp(), draw(rows, tokens, heads, keys).sigmoid()
    return [r, decay, k, draw(rows, tokens, heads, values), -kk, kk * rate, draw(rows, heads, keys, values)]


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("several", [False, True], ids=["whole", "packed"])
def test_fading_mean(tokens, begun, several, path):  # noqa: F811
    inputs = [*fading(tokens, begun=begun), positions(packed(2, tokens)) == 0 if several else None]
    wanted = results(wkv_plain, inputs, 4)
    agree([*results(wkv, inputs, 4)], wanted)
    for chunk in (1, 4, 16, 64):
        found = results(lambda *given, chunk=chunk: wkv_chunked(*given, chunk=chunk), inputs, 4)
        total, weight, top = wanted[1].unbind(1)
        agree(
            [found[0], found[1][:, 0], found[1][:, 2], *found[2:]], [wanted[0], total / weight, top + weight.log(), *wanted[2:]]
        )


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_extreme_keys_and_decays_neither_overflow_nor_lose_the_mean(size):
    """4096 tokens; e^300 has no float32."""
    inputs = [*fading(4096, rows=1, width=5, begun=False), None]
    inputs[0] = torch.tensor([1e-6, 1e-3, 1.0, 30.0, 1e4])
    inputs[2] = inputs[2] * size / 3
    exact = results(wkv_plain, [*(part.double() for part in inputs[:-1]), None], 4)
    agree(results(wkv, inputs, 4), [part.float() for part in exact])


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("several", [False, True], ids=["whole", "packed"])
def test_correcting_matrix(tokens, several, path):  # noqa: F811
    inputs = [*correcting(tokens), positions(packed(2, tokens)) == 0 if several else None]
    agree(results(delta_scan, inputs, 6), results(delta_scan_plain, inputs, 6))


def test_a_long_row_of_corrections_stays_exact():
    inputs = [*correcting(4096, rows=1, heads=1, keys=4, values=3), None]
    exact = results(delta_scan_plain, [*(part.double() for part in inputs[:-1]), None], 6)
    agree(results(delta_scan, inputs, 6), [part.float() for part in exact])


@pytest.mark.parametrize("steps", [[1] * 11, [3, 1, 5, 2], [11]])
def test_a_recurrence_goes_on_from_its_state(steps, path):  # noqa: F811
    w, u, *rest = fading(11)
    for scan, inputs in ((lambda *given: wkv(w, u, *given), rest), (delta_scan, correcting(11))):
        whole, last = scan(*inputs)
        parts, state = [], inputs[-1]
        for pieces in zip(*(part.split(steps, 1) for part in inputs[:-1]), strict=True):
            y, state = scan(*pieces, state)
            parts.append(y)
        agree([torch.cat(parts, 1), state], [whole, last])


def test_the_token_before_is_of_the_same_document():
    x = torch.arange(1.0, 7.0)[None, :, None]
    fresh = torch.tensor([[False, False, True, False, True, True]])
    assert previous(x, None)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert previous(x, fresh, torch.tensor([[9.0]]))[0, :, 0].tolist() == [9, 1, 0, 3, 0, 0]
