"""What is measured before a model is served, and what is chosen from it."""

import pytest
import torch

from danlu.engine.native import matrix
from danlu.engine.native.tune import Speed, choose, tune
from danlu.models import MODELS

if matrix.library() is None:
    pytest.skip("needs a C compiler, and DANLU_KERNELS not 0", allow_module_level=True)


def test_measuring_gives_every_format_and_a_choice():
    model = MODELS["llama"].tiny(hidden_size=96, intermediate_size=160)
    choice = tune(model, threads=2, budget_s=0.2)
    assert {speed.form for speed in choice.speeds} == set(matrix.FORMATS)
    assert all(speed.decode > 0 and speed.prompt > 0 for speed in choice.speeds)
    assert choice.form == "fp32" and "no bf16 numbers" in choice.why  # random float32 weights
    assert "int4" in choice.line()


def speeds(fp32, bf16, threads=2):
    return [Speed("fp32", threads, *fp32), Speed("bf16", threads, *bf16)]


def test_a_slower_bf16_is_not_chosen_and_said():
    choice = choose(speeds((20.0, 400.0), (39.0, 200.0)), 2, exact_bf16=True)
    assert choice.form == "fp32" and "0.50 times" in choice.why


def test_one_thread_is_chosen_where_two_are_slower():
    choice = choose(speeds((20.0, 400.0), (39.0, 700.0), 1) + speeds((11.0, 400.0), (39.0, 700.0)), 2, exact_bf16=True)
    assert choice.threads == 1 and choice.form == "bf16"


def test_bf16_weights_lose_nothing_by_it():
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    assert torch.equal(matrix.rounded(weight, "bf16").float(), weight)
