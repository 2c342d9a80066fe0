"""How fast this machine trains, measured in seconds of real work rather than looked up.

Matrix products and memory streaming give the ceilings; a handful of real training steps of different shapes give the
price of starting operations, of products as models use them, and of everything elementwise. Medians and minima are taken
because other processes only ever make a step slower.
"""

import os
import time
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import nn

from danlu.core import machine
from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.train.cost import Shape
from danlu.train.optimisers import OPTIMISERS
from danlu.train.plan import Dtype, Pace

_DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_ROW_TOKENS = 128
_PROBES = (  # one dimension at a time is large: width, depth, vocabulary, tokens of a step, tokens of a row
    (Shape(width=64, inner=192, layers=1, heads=2, vocab=512), 4, _ROW_TOKENS),
    (Shape(width=256, inner=768, layers=2, heads=4, vocab=512), 8, _ROW_TOKENS),
    (Shape(width=64, inner=192, layers=6, heads=2, vocab=512), 2, _ROW_TOKENS),
    (Shape(width=128, inner=384, layers=2, heads=4, vocab=8192), 8, _ROW_TOKENS),
    (Shape(width=128, inner=384, layers=4, heads=4, vocab=1024), 16, _ROW_TOKENS),
    (Shape(width=96, inner=256, layers=4, heads=3, vocab=512), 4, 4 * _ROW_TOKENS),
)
"""Shape, rows of a step, tokens of a row."""


def measure(threads: int | None = None, dtype: Dtype | None = None) -> Pace:
    """Time this machine; `threads` and `dtype` are measured too where they are not given. Takes a few seconds."""
    started = time.monotonic()
    before = torch.get_num_threads()
    try:
        threads = threads or fastest_threads()
        torch.set_num_threads(threads)
        peaks: dict[Dtype, float] = {name: matmul_flops(kind) for name, kind in _DTYPES.items()}
        dtype = dtype or fastest_dtype(peaks)
        layer_s, flop_s, element_s, score_s = _fit_steps(dtype, peaks[dtype])
        update_s, parameter_s = _update_costs(peaks)
        bandwidth = memory_bandwidth()
    finally:
        torch.set_num_threads(before)
    return Pace(
        threads=threads,
        matmul_flops=peaks,
        bandwidth=bandwidth,
        dtype=dtype,
        layer_s=layer_s,
        flop_s=flop_s,
        element_s=element_s,
        score_s=score_s,
        update_s=update_s,
        parameter_s=parameter_s,
        activation_bytes=_kept_bytes(dtype),
        resident_bytes=machine.resident_bytes(),
        memory_bytes=machine.memory_bytes(),
        seconds=time.monotonic() - started,
    )


def seconds_of(work: Callable[[], object], repeats: int = 3, warm: int = 1, most_s: float = 0.4) -> float:
    """Fastest of `repeats` runs, after `warm` that do not count; fewer once `most_s` seconds have passed."""
    times: list[float] = []
    first = time.perf_counter()
    for turn in range(warm + repeats):
        started = time.perf_counter()
        work()
        ended = time.perf_counter()
        if turn >= warm:
            times.append(ended - started)
            if ended - first > most_s:
                break
    return min(times)


def matmul_flops(dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations a second of a square product."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2.0 * size**3 / seconds_of(lambda: a @ b, repeats=4)


def memory_bandwidth(bytes_count: int = 1 << 27) -> float:
    """Bytes a second of a copy, reads and writes both counted."""
    source = torch.empty(bytes_count // 4).fill_(1.0)
    target = torch.empty_like(source)
    return 2.0 * bytes_count / seconds_of(lambda: target.copy_(source))


def fastest_threads() -> int:
    """Threads that train a middling model fastest, out of one, all cores, and the powers of two between."""
    cores = machine.cores()
    options = sorted({1, cores, *(2**power for power in range(1, cores.bit_length()) if 2**power < cores)})
    if len(options) == 1:
        return 1
    step = training_step(_model(_PROBES[1][0]), rows=4, row_tokens=_ROW_TOKENS)
    times = {}
    for count in options:
        torch.set_num_threads(count)
        times[count] = seconds_of(step, repeats=2)
    return min(times, key=lambda count: (times[count] * (1.03 if count > 1 else 1.0), count))


def fastest_dtype(peaks: dict[Dtype, float]) -> Dtype:
    """The type in which a middling model trains fastest; bfloat16 is tried only where its products are faster."""
    if peaks["bfloat16"] < 1.2 * peaks["float32"]:
        return "float32"
    times = {
        name: seconds_of(training_step(_model(_PROBES[1][0], name), rows=8, row_tokens=_ROW_TOKENS), repeats=2)
        for name in _DTYPES
    }
    return "bfloat16" if times["bfloat16"] < 0.97 * times["float32"] else "float32"


def training_step(model: CausalLM, rows: int, row_tokens: int) -> Callable[[], None]:
    """Forward and backward over made-up tokens, as a callable."""
    ids = torch.randint(model.config.vocab_size, (rows, row_tokens + 1), generator=torch.Generator().manual_seed(0))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        hidden = model.hidden(ids[:, :-1])
        (model.cross_entropy_sum(hidden.flatten(0, 1), ids[:, 1:].flatten()) / (rows * row_tokens)).backward()

    return step


def _model(shape: Shape, dtype: Dtype = "float32") -> CausalLM:
    config = MODELS["qwen3"].Config(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        tie_word_embeddings=shape.tied,
    )
    model: CausalLM = MODELS.build(config)
    model.compute_dtype = _DTYPES[dtype]
    return model


def _fit_steps(dtype: Dtype, peak: float) -> tuple[float, float, float, float]:
    """Seconds of starting a layer, of an operation in a product, of an element and of a score, fitted to the probes' times."""
    works, times = [], []
    for shape, rows, row_tokens in _PROBES:
        times.append(seconds_of(training_step(_model(shape, dtype), rows, row_tokens)))
        each = (shape.flops_per_token(row_tokens), shape.elements_per_token(), shape.scores_per_token(row_tokens))
        works.append((shape.layers + 1, *(rows * row_tokens * one for one in each)))
    layer_s, flop_s, element_s, score_s = fit_positive(works, times)
    return layer_s, max(flop_s, 1.0 / peak), element_s, score_s


def fit_positive(works: Sequence[Sequence[float]], times: Sequence[float]) -> list[float]:
    """Prices >= 0 of each kind of work that explain the times with the least relative error.

    works: one row a measurement, one column a kind. Tries every subset of kinds, which is exact for a handful.

    >>> [round(price, 6) for price in fit_positive([(1, 0), (1, 2), (3, 1)], [2.0, 2.0, 6.0])]
    [2.0, 0.0]
    """
    rows = np.asarray(works, float) / np.asarray(times, float)[:, None]
    kinds = rows.shape[1]
    best, answer = np.inf, np.zeros(kinds)
    for count in range(1, kinds + 1):
        for chosen in map(list, combinations(range(kinds), count)):
            scale = np.linalg.norm(rows[:, chosen], axis=0)
            prices = np.linalg.lstsq(rows[:, chosen] / scale, np.ones(len(rows)), rcond=None)[0] / scale
            error = float(np.square(rows[:, chosen] @ prices - 1).sum())
            if (prices >= 0).all() and error < best:
                best, answer = error, np.zeros(kinds)
                answer[chosen] = prices
    return [float(price) for price in answer]


def _update_costs(peaks: dict[Dtype, float]) -> tuple[float, float]:
    """Seconds of an operation in Muon's iterations, and of one parameter's share of the update."""
    shape, iterations = _PROBES[4][0], 4
    dtype = "bfloat16" if peaks["bfloat16"] > 1.2 * peaks["float32"] else "float32"
    model = _model(shape)
    optimiser = OPTIMISERS.build(OPTIMISERS["muon"].Config(iterations=iterations, dtype=dtype), list(model.named_parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    matrix = seconds_of(optimiser.step)
    table = nn.Parameter(torch.randn(1 << 16, 8))
    table.grad = torch.randn_like(table)
    plain = OPTIMISERS.build(OPTIMISERS["adamw"].Config(), [("embed.weight", table)])
    parameter_s = seconds_of(plain.step) / table.numel()
    left = max(matrix - parameter_s * shape.parameters, 0.1 * matrix)
    return left / shape.update_flops(iterations), parameter_s


def _kept_bytes(dtype: Dtype) -> float:
    """Bytes for each activation element that `Shape.kept_elements_per_token` counts, from what autograd really keeps."""
    shape, rows, _ = _PROBES[1]
    tokens = rows * _ROW_TOKENS
    model = _model(shape, dtype)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros(rows, _ROW_TOKENS, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.hidden(ids)
    assert hidden.requires_grad
    return sum(seen.values()) / (tokens * shape.kept_elements_per_token())


def describe(pace: Pace) -> str:
    """The pace in one line for people."""
    peaks = ", ".join(f"{name} {flops / 1e9:.0f} GFLOP/s" for name, flops in pace.matmul_flops.items())
    reached = 1.0 / pace.flop_s / pace.matmul_flops[pace.dtype]
    return (
        f"{pace.threads} of {os.cpu_count()} threads, {pace.dtype}: products {peaks}, memory {pace.bandwidth / 1e9:.0f} GB/s; "
        f"models reach {reached:.0%} of the products' peak (measured in {pace.seconds:.1f} s)"
    )
