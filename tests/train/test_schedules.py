"""Laws of the schedules: worked values, and what every schedule on the shelf promises."""

import itertools
import math

import pytest

from danlu.train.schedules import SCHEDULES
from danlu.train.schedules.wsd import WSD


def factors(name: str, steps: int, **settings: float | str) -> list[float]:
    schedule = SCHEDULES.build(SCHEDULES[name].Config(**settings))
    return [schedule.factor(step, steps) for step in range(steps)]


def test_wsd_climbs_stays_and_falls_evenly():
    assert factors("wsd", 10, warmup=0.2, decay=0.4) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_wsd_square_root_falls_steeply_first():
    fall = factors("wsd", 8, warmup=0.0, decay=0.5, shape="sqrt")[4:]
    assert fall == pytest.approx([1 - math.sqrt(gone / 4) for gone in range(4)])


def test_wsd_ends_on_its_floor():
    assert factors("wsd", 1000, warmup=0.0, decay=1.0, floor=0.25)[-1] == pytest.approx(0.25, abs=1e-3)


def test_cosine_is_half_way_in_the_middle():
    values = factors("cosine", 100, warmup=0.0, floor=0.1)
    assert values[0] == 1.0
    assert values[50] == pytest.approx(0.55)
    assert values[-1] == pytest.approx(0.1, abs=1e-3)


def test_linear_is_a_line():
    values = factors("linear", 20, warmup=0.25)
    steps = [a - b for a, b in itertools.pairwise(values[5:])]
    assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_every_schedule_stays_in_bounds_and_never_stops_early(name, steps):
    values = factors(name, steps)
    assert all(0 < value <= 1 for value in values)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_schedule_falls_after_its_peak(name):
    values = factors(name, 300)
    peak = values.index(max(values))
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)


def test_stable_part_does_not_know_the_horizon():
    """What makes WSD end anywhere: before the decay, a longer run takes the same steps."""
    schedule = WSD(WSD.Config(warmup=0.0, decay=0.5))
    assert [schedule.factor(step, 100) for step in range(50)] == [schedule.factor(step, 400) for step in range(50)]
