"""A small shelf made on disk for tests of what reads shelves: it is no part of the house."""

import sys
import textwrap
from pathlib import Path

import pytest

from danlu.core.registry import Registry, _installed, _offers

FILES = {
    "__init__.py": '"""Knobs for tests."""\n\nfrom danlu.core.registry import Registry\n\nKNOBS = Registry("knob", __name__)\n',
    "round.py": '''
        """Turns without an end."""

        from typing import Literal

        from pydantic import Field

        from danlu.core.settings import Named
        from {package} import KNOBS


        @KNOBS.register
        class Round:
            class Config(Named):
                name: Literal["round"] = "round"
                angle: float = Field(0.5, gt=0, le=7)
                """How far one notch turns, radians."""

            def __init__(self, config, *parts):
                self.config, self.parts = config, parts
    ''',
    "square.py": '''
        """Fits square holes."""

        from typing import Literal

        from danlu.core.settings import Named
        from {package} import KNOBS


        @KNOBS.register(aliases=("box",))
        class Square:
            class Config(Named):
                name: Literal["square"] = "square"
                side: int
                """Length of an edge, millimetres."""
                sharp: bool = True
                """Whether the corners cut."""

            def __init__(self, config, *parts):
                self.config, self.parts = config, parts
    ''',
    "helper.py": '"""Stands beside the things without being one."""\n\nLOADED = True\n',
}


def make_shelf(folder: Path, monkeypatch: pytest.MonkeyPatch, package: str = "knobs_for_tests", **more: str) -> Registry:
    """A package with the things `round` and `square` and a helper file, importable for one test."""
    place = folder / package
    place.mkdir()
    for name, text in {**FILES, **more}.items():
        (place / name.replace("_py", ".py")).write_text(textwrap.dedent(text).replace("{package}", package), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    for cache in (_offers, _installed):
        cache.cache_clear()
    return __import__(package).KNOBS
