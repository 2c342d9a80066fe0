"""Every error of ours can be looked up, in both languages."""

import inspect
import re
from pathlib import Path

import pytest

from danlu.core import errors
from danlu.core.errors import DanluError, MissingExtra, UnknownName, nearest

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLASSES = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, DanluError) and kind is not DanluError
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_meaning_an_anchor_and_an_exit_code(kind):
    assert kind.__doc__
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.anchor)
    assert kind.exit_code in (1, 2, 130)


def test_no_two_errors_share_an_anchor():
    anchors = [kind.anchor for kind in CLASSES]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_errors_page_has_exactly_one_heading_for_each_class(language):
    page = (DOCS / language / "errors.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## .*\{#([\w-]+)\}$", page, re.MULTILINE)) == sorted(kind.anchor for kind in CLASSES)


def test_a_message_ends_with_the_place_that_explains_it():
    assert str(errors.NoSpace("full.")) == "full. (docs: errors#no-space)"
    assert str(DanluError("plain")) == "plain"


def test_a_missing_extra_says_how_to_get_it():
    assert "pip install 'danlu[zh]'" in str(MissingExtra("zh", needed_for="words"))


def test_unknown_names_are_answered_with_near_ones_or_all():
    assert "Did you mean muon?" in str(UnknownName("optimiser", "muno", ["adamw", "muon"]))
    assert nearest("x", []) == "Known: none."
