"""A time budget is kept by correcting the number of steps at fixed points; what was decided stays decided."""

import pytest

from danlu.train.horizon import Horizon


def play(horizon, pace, reserve=0.0, budget_steps=10_000):
    """Run against a clock: `pace(step)` seconds a step. Returns steps done and seconds spent."""
    step, spent = 0, 0.0
    while step < horizon.steps(step):
        spent += pace(step)
        step += 1
        if horizon.due(step) and step < horizon.steps(step):
            horizon.review(step, spent, reserve)
    return step, spent


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.3, 3.0])
def test_a_wrong_prediction_still_ends_within_the_budget(tmp_path, factor):
    horizon = Horizon(tmp_path / "horizon.json", steps=400, seconds=100.0)
    _, spent = play(horizon, lambda step: 0.25 * factor)
    assert spent == pytest.approx(100.0, rel=0.06)


def test_a_machine_that_slows_down_half_way_still_ends_within_the_budget(tmp_path):
    horizon = Horizon(tmp_path / "horizon.json", steps=400, seconds=100.0)
    _, spent = play(horizon, lambda step: 0.25 if step < 200 else 0.4)
    assert spent == pytest.approx(100.0, rel=0.1)


def test_a_reserve_is_left_for_what_follows(tmp_path):
    horizon = Horizon(tmp_path / "horizon.json", steps=400, seconds=100.0)
    _, spent = play(horizon, lambda step: 0.25, reserve=20.0)
    assert spent == pytest.approx(80.0, rel=0.03)


def test_a_pace_as_predicted_changes_nothing(tmp_path):
    horizon = Horizon(tmp_path / "horizon.json", steps=400, seconds=100.0)
    assert play(horizon, lambda step: 0.25 * (1.01 if step % 2 else 0.99))[0] == 400


def test_decisions_are_read_back_and_hold_from_their_step_on(tmp_path):
    horizon = Horizon(tmp_path / "horizon.json", steps=100, seconds=10.0)
    play(horizon, lambda step: 0.12 if step < 30 else 0.3)
    again = Horizon(tmp_path / "horizon.json", steps=100, seconds=10.0)
    assert again.decisions == horizon.decisions and len(again.decisions) > 1
    assert [again.steps(step) for step in range(100)] == [horizon.steps(step) for step in range(100)]
    assert again.steps(0) == 100 and not any(again.due(one["at"]) for one in again.decisions)


def test_without_a_time_budget_nothing_is_reviewed(tmp_path):
    horizon = Horizon(tmp_path / "horizon.json", steps=100)
    assert not any(horizon.due(step) for step in range(101)) and horizon.steps(50) == 100
