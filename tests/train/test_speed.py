"""Laws of measuring: prices explain what they were fitted to, predictions add up, nothing is left changed."""

from types import SimpleNamespace

import pytest
import torch

from danlu.models import MODELS
from danlu.train import speed
from danlu.train.cost import Shape, memory_bytes, step_seconds
from danlu.train.plan import Pace

PACE = Pace(
    threads=2,
    matmul_flops={"float32": 2e11, "bfloat16": 4e11},
    bandwidth=3e10,
    layer_s=1e-3,
    flop_s=1e-11,
    element_s=1e-9,
    update_s=1e-11,
    parameter_s=1e-9,
    memory_bytes=10**10,
)
SHAPE = Shape(width=64, inner=160, layers=3, heads=2, vocab=500)


def model(**changes):
    sizes = {"vocab_size": 97, "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 2}
    return MODELS.build(MODELS["qwen3"].Config(**{**sizes, **changes}))


def test_fit_recovers_the_prices_that_made_the_times():
    works = [(1, 5, 2), (3, 1, 7), (2, 2, 2), (9, 4, 1)]
    prices = [0.5, 0.25, 2.0]
    times = [sum(w * p for w, p in zip(row, prices)) for row in works]
    assert speed.fit_positive(works, times) == pytest.approx(prices)


def test_probes_tell_the_prices_apart(monkeypatch):
    prices = {"layer_s": 1.2e-3, "flop_s": 5e-12, "element_s": 7e-10, "score_s": 4e-9}

    def seconds(probe):
        shape, rows, row_tokens = probe
        return step_seconds(shape, row_tokens, rows, rows, PACE.model_copy(update={**prices, "parameter_s": 0.0}))

    monkeypatch.setattr(speed, "_model", lambda shape, dtype: shape)
    monkeypatch.setattr(speed, "training_step", lambda *probe: probe)
    monkeypatch.setattr(speed, "seconds_of", seconds)
    assert speed._fit_steps("float32", peak=1e12) == pytest.approx(tuple(prices.values()))


def test_longer_rows_cost_what_their_scores_cost():
    dear = PACE.model_copy(update={"score_s": 1e-8})
    more = [step_seconds(SHAPE, row, 1024 // row, 8, dear) - step_seconds(SHAPE, row, 1024 // row, 8, PACE) for row in (128, 512)]
    assert more == pytest.approx([1024 * 6 * 128 * 1e-8, 1024 * 6 * 512 * 1e-8])


def test_fit_never_pays_for_work():
    assert min(speed.fit_positive([(1, 1), (2, 1), (3, 1)], [3.0, 2.0, 1.0])) >= 0


@pytest.mark.parametrize("tied", [True, False])
def test_shape_counts_what_the_model_has(tied):
    built = model(tie_word_embeddings=tied)
    shape = Shape(width=48, inner=112, layers=3, heads=2, vocab=97, tied=tied)
    head_norms = sum(part.numel() for name, part in built.named_parameters() if name.endswith(("q_norm.weight", "k_norm.weight")))
    assert shape.parameters == sum(part.numel() for part in built.parameters()) - head_norms
    assert shape.flops_per_token(50) == built.flops_per_token(50)


def test_more_work_costs_more():
    base = step_seconds(SHAPE, 128, 8, 8, PACE, 4)
    assert step_seconds(SHAPE, 128, 16, 16, PACE, 4) > base
    assert step_seconds(SHAPE, 256, 8, 8, PACE, 4) > 2 * base - step_seconds(SHAPE, 128, 0, 8, PACE, 4)
    assert step_seconds(SHAPE, 128, 8, 2, PACE, 4) == pytest.approx(base + 3 * 4 * PACE.layer_s)
    assert step_seconds(SHAPE, 128, 8, 8, PACE, 0) < base


def test_memory_grows_with_rows_and_weights():
    less = memory_bytes(SHAPE, 128, 4, PACE, "float32")
    assert memory_bytes(SHAPE, 128, 8, PACE, "float32") > less
    assert memory_bytes(Shape(width=128, inner=320, layers=3, heads=2, vocab=500), 128, 4, PACE, "float32") > less


def test_measuring_gives_a_usable_pace_and_leaves_threads_alone():
    before = torch.get_num_threads()
    pace = speed.measure(threads=1, dtype="float32")
    assert torch.get_num_threads() == before
    assert pace.threads == 1 and pace.dtype == "float32"
    assert pace.flop_s >= 1 / pace.matmul_flops["float32"]
    assert pace.bandwidth > 1e8 and pace.parameter_s > 0 and pace.update_s > 0
    assert 1 < pace.activation_bytes < 40
    assert Pace(**pace.model_dump(mode="json")) == pace
    assert "GFLOP/s" in speed.describe(pace)


def clock(monkeypatch, *ticks):
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=iter(ticks).__next__))


def test_seconds_of_takes_the_fastest_and_drops_the_first(monkeypatch):
    clock(monkeypatch, 0.0, 0.0, 1.0, 10.0, 13.0, 20.0, 22.0)
    assert speed.seconds_of(lambda: None, repeats=2, warm=1, most_s=100.0) == 2.0


def test_seconds_of_stops_when_it_has_taken_long(monkeypatch):
    clock(monkeypatch, 0.0, 0.0, 1.0, 10.0, 13.0)
    assert speed.seconds_of(lambda: None, repeats=5, warm=1, most_s=5.0) == 3.0
