"""Scaled rotary frequencies equal transformers' for every kind, and what each kind promises holds."""

import math

import pytest
import torch
from pydantic import ValidationError

from danlu.nn.rope import frequencies
from danlu.nn.rope_scaling import RopeScaling, dynamic, linear, llama3, scaled, yarn

SETTINGS = [
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "linear", "factor": 1.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 7.5},
    {"rope_type": "yarn", "factor": 4.0},
    {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 512, "truncate": False},
    {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707, "mscale_all_dim": 1.0},
    {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 99, "beta_fast": 8.0, "beta_slow": 2.0},
    {"rope_type": "yarn", "factor": 2.0, "attention_factor": 0.75},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8192},
    {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.5, "high_freq_factor": 3.0,
     "original_max_position_embeddings": 200},
    {"rope_type": "longrope", "short_factor": [1 + i / 7 for i in range(20)], "long_factor": [1.0 + i for i in range(20)],
     "original_max_position_embeddings": 600},
    {"rope_type": "longrope", "short_factor": [1.5] * 20, "long_factor": [3.0] * 20, "factor": 9.0,
     "original_max_position_embeddings": 100, "attention_factor": 1.25},
]  # fmt: skip
WIDTH, CONTEXT = 40, 1200


def theirs(settings, theta, length):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(hidden_size=200, num_attention_heads=5, head_dim=WIDTH, max_position_embeddings=CONTEXT,
                         rope_parameters={"rope_theta": theta, **settings})  # fmt: skip
    return ROPE_INIT_FUNCTIONS[settings["rope_type"]](config, torch.device("cpu"), seq_len=length)


@pytest.mark.parametrize("theta", [500.0, 10_000.0, 500_000.0])
@pytest.mark.parametrize("settings", SETTINGS)
def test_frequencies_and_attention_scale_equal_transformers(settings, theta):
    for length in (5, 300, 601, 1201, 5000):
        wanted, scale = theirs(settings, theta, length)
        found, found_scale = scaled(RopeScaling(**settings), WIDTH, theta, CONTEXT, length)
        torch.testing.assert_close(found, wanted, rtol=2e-6, atol=0)
        assert math.isclose(found_scale, scale, rel_tol=1e-12)


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_kind_turns_faster_than_plain(settings):
    found, _ = scaled(RopeScaling(**settings), WIDTH, 10_000.0, CONTEXT, 3000)
    assert (found <= frequencies(WIDTH, 10_000.0) * (1 + 1e-6)).all() and (found > 0).all()


def test_without_scaling_frequencies_are_plain():
    found, scale = scaled(None, WIDTH, 77.0, CONTEXT)
    assert torch.equal(found, frequencies(WIDTH, 77.0)) and scale == 1.0


def test_interpolation_puts_the_longest_text_where_the_trained_one_ended():
    plain = frequencies(WIDTH, 10_000.0)
    torch.testing.assert_close(linear(plain, 4.0) * 4 * CONTEXT, plain * CONTEXT)


def test_by_parts_keeps_the_fast_planes_and_interpolates_the_slow_ones():
    """The first plane turns once in 2 pi tokens, the last never ends its first turn: they are the two ends of every ramp."""
    plain = frequencies(64, 10_000.0)
    for found in (yarn(64, 10_000.0, 8.0, 256), llama3(plain, 8.0, 1.0, 4.0, 256)):
        assert found[0] == plain[0]
        torch.testing.assert_close(found[-1], plain[-1] / 8)
        assert (found.diff() < 0).all()


def test_dynamic_scaling_does_nothing_up_to_the_trained_length_and_depends_on_each_text_alone():
    lengths = torch.tensor([[3, 64], [65, 640]])
    found = dynamic(WIDTH, 100.0, 3.0, 64, lengths)
    assert found.shape == (2, 2, WIDTH // 2)
    torch.testing.assert_close(found[0], frequencies(WIDTH, 100.0).expand(2, -1))
    for row, column in ((1, 0), (1, 1)):
        torch.testing.assert_close(found[row, column], dynamic(WIDTH, 100.0, 3.0, 64, int(lengths[row, column])))
    assert (found[1, 1] < found[1, 0]).any() and found[1, 1, 0] == 1.0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"rope_type": "linear"}, "needs factor"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 32.0}, "knows no beta_fast"),
        ({"rope_type": "llama3", "factor": 2.0}, "needs low_freq_factor, high_freq_factor"),
        ({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}, "greater than low_freq_factor"),
        ({"rope_type": "yarn", "factor": 0.5}, "greater than or equal to 1"),
        ({"rope_type": "mrope", "factor": 2.0}, "'linear', 'dynamic'"),
        ({"rope_type": "linear", "factor": 2.0, "sections": [1, 2]}, "sections"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, named):
    with pytest.raises(ValidationError, match=named):
        RopeScaling(**settings)


def test_factors_for_another_number_of_planes_are_refused():
    with pytest.raises(ValueError, match="3 numbers, but heads of 10 have 5 planes"):
        RopeScaling(rope_type="longrope", short_factor=[1.0] * 3, long_factor=[1.0] * 5).check(10)
    with pytest.raises(ValueError, match="more than 2 channels"):
        RopeScaling(rope_type="dynamic", factor=2.0).check(2)
