"""The parity table speaks of every family, and what it says is within the bounds that the page states."""

import statistics

import pytest
from tools import parity

from danlu.models import MODELS
from tests.models.reference import CASES, OWN

FIGURES = parity.json.loads(parity.FIGURES.read_text(encoding="utf-8"))


def test_every_family_and_every_case_was_measured():
    assert set(FIGURES["cases"]) == set(MODELS.names()) - OWN
    assert sorted(parity.json.dumps([family, changes]) for family, changes in CASES) == sorted(
        parity.json.dumps([family, case["changes"]]) for family, cases in FIGURES["cases"].items() for case in cases
    ), "run: python tools/parity.py"


@pytest.mark.parametrize("family", sorted(FIGURES["cases"]))
def test_differences_are_within_the_bounds(family):
    every = [value for case in FIGURES["cases"][family] for value in case["differences"].values()]
    assert statistics.median(every) <= 1e-5 and max(every) <= 1e-4


def test_the_pages_show_the_figures():
    for path, page in parity.pages(FIGURES).items():
        assert path.read_text(encoding="utf-8") == page, "run: python tools/parity.py --pages"
