"""Fused passes of frozen layers: what the plain definitions compute, with nothing kept or computed that nobody needs."""

import pytest
import torch

from danlu.nn import kernels, low_rank
from danlu.nn.linear import Linear, Transposed, lay_on
from danlu.nn.low_rank import LowRank
from danlu.nn.mlp import SwiGLU
from danlu.nn.norm import RMSNorm
from danlu.nn.project import project, project_plain
from danlu.nn.quant import quantise_int4
from danlu.nn.small_frozen import SmallFrozen
from tests.models.adapters.moved import gap

WIDTH, TOKENS = 24, (2, 5)


def frozen(layer, rank=None, dropout=0.0, seed=0):
    """A layer with values of a seed, and a LowRank of that rank on it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        parameter.requires_grad_(False)
    if rank:
        outputs, inputs = layer.matrix.shape
        part = LowRank(inputs, outputs, rank, 0.7, dropout)
        for parameter in part.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        lay_on(layer, part)
    return layer


def normed(learns=False):
    norm = RMSNorm(WIDTH, 1e-6)
    norm.weight.data = 1 + 0.1 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(9))
    norm.weight.requires_grad_(learns)
    return norm


def results(run, *parts):
    """What a run answers, and the gradients of its input and of what learns."""
    x = torch.randn(*TOKENS, WIDTH, generator=torch.Generator().manual_seed(7)).requires_grad_(True)
    found = run(x)
    found = found if isinstance(found, tuple) else (found,)
    learns = [parameter for part in parts for parameter in part.parameters() if parameter.requires_grad]
    sum((one * torch.arange(one.numel()).view_as(one)).sum() for one in found).backward()
    grads = [x.grad, *(parameter.grad for parameter in learns)]
    for parameter in learns:
        parameter.grad = None
    return [*found, *grads]


def agree(fast, plain, *parts):
    for mine, wanted in zip(results(fast, *parts), results(plain, *parts), strict=True):
        assert gap(mine, wanted) < 1e-5


def added(*layers):
    return [layer.added for layer in layers if layer.added is not None]


@pytest.fixture
def taken(monkeypatch):
    """The names of the fused passes that were taken."""
    names = []
    for name in ("product", "project", "swiglu"):
        real = getattr(low_rank, name)
        monkeypatch.setattr(low_rank, name, lambda *a, name=name, real=real: names.append(name) or real(*a))
    return names


@pytest.mark.parametrize("kind", ["linear", "bias", "transposed"])
def test_one_layer(kind, taken):
    layer = frozen(Transposed(WIDTH, 11) if kind == "transposed" else Linear(WIDTH, 11, kind == "bias"), 3)

    def plain(x):
        y = x @ layer.matrix.t()
        return layer.added(x, y if layer.bias is None else y + layer.bias)

    agree(layer, plain, layer.added)
    assert taken == ["product"]


@pytest.mark.skipif(not kernels.usable(torch.float32), reason="no C compiler")
@pytest.mark.parametrize("ranks", [(2, 3, 5), (None, 3, None), (None, None, None)])
@pytest.mark.parametrize("learns", [False, True])
def test_layers_that_share_a_normed_stream(ranks, learns, taken):
    layers = [frozen(Linear(WIDTH, size), rank, seed=size) for size, rank in zip((7, 11, 13), ranks, strict=True)]
    norm = normed(learns)
    agree(lambda x: project(x, norm, *layers), lambda x: project_plain(x, norm, *layers), norm, *added(*layers))
    assert taken[0] == "project"


@pytest.mark.skipif(not kernels.usable(torch.float32), reason="no C compiler")
@pytest.mark.parametrize("ranks", [(2, 3, 5), (None, 3, None), (None, None, 2), (None, None, None)])
def test_the_gated_layer(ranks, taken):
    mlp, norm = SwiGLU(WIDTH, 17), normed()
    layers = [frozen(layer, rank, seed=at) for at, (layer, rank) in enumerate(zip(
        (mlp.gate_proj, mlp.up_proj, mlp.down_proj), ranks, strict=True))]  # fmt: skip
    agree(lambda x: mlp(x, norm), lambda x: mlp.plain(x, norm), *added(*layers))
    assert taken[0] == "swiglu"


@pytest.mark.skipif(not kernels.usable(torch.bfloat16), reason="no C compiler")
def test_short_products_stay_near_the_long_ones():
    mlp, norm = SwiGLU(WIDTH, 17), normed()
    layers = [frozen(layer, 3, seed=at) for at, layer in enumerate((mlp.gate_proj, mlp.up_proj, mlp.down_proj))]
    exact = results(lambda x: mlp(x, norm), *added(*layers))
    norm.compute_dtype = torch.bfloat16
    short = results(lambda x: mlp(x, norm), *added(*layers))
    assert all(gap(mine.float(), wanted) < 0.05 for mine, wanted in zip(short, exact, strict=True))
    assert all(parameter.dtype == torch.float32 for part in added(*layers) for parameter in part.parameters())


def test_a_base_that_learns_and_inputs_that_are_dropped_go_the_plain_way(taken):
    layer = frozen(Linear(WIDTH, 11), 3)
    layer.weight.requires_grad_(True)
    results(layer, layer, layer.added)
    layer.weight.requires_grad_(False)
    lay_on(layer, None)
    frozen(layer, 3, dropout=0.5)
    layer.added.train()
    assert not low_rank.light(layer)
    layer(torch.ones(1, WIDTH))
    assert taken == []
    layer.added.eval()
    layer(torch.ones(1, WIDTH))
    assert taken == ["product"]


def test_dropped_inputs_are_the_wanted_ones_on_average():
    part = LowRank(WIDTH, 11, 3, 0.7, dropout=0.25).train()
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(5)
    x = torch.ones(20_000, WIDTH)
    with torch.no_grad():
        mean = part(x, torch.zeros(20_000, 11)).mean(0)
        assert gap(mean, part.eval()(x[:1], torch.zeros(1, 11))[0]) < 0.05


@pytest.mark.parametrize("small", [False, True])
def test_nothing_of_the_matrix_is_kept_for_the_way_back(small):
    layer = frozen(Linear(WIDTH, 40), 3)
    if small:
        held = SmallFrozen(quantise_int4(layer.weight, group=8))
        lay_on(held, layer.added)
        layer = held
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        layer(torch.randn(2, WIDTH, requires_grad=True))
    assert kept and all(tensor.numel() < 40 * WIDTH for tensor in kept)
