"""The generated parts of the documentation are as fresh as what they are generated from."""

import json

import pytest
from tools import api_fields, atlas, benchmarks_table, quickstart_output, reference, regions, scale

from danlu.models import MODELS

TOOLS = [reference, benchmarks_table, scale, quickstart_output, atlas, api_fields]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_generated_pages_are_fresh(tool):
    stale = [
        str(path.relative_to(regions.ROOT)) for path, text in tool.pages().items() if path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run: make pages"


@pytest.mark.parametrize("path", sorted((regions.ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_the_command_that_repeats_a_figure_exists(path):
    words = json.loads(path.read_text(encoding="utf-8"))["command"].split()
    assert words[0] == "python" and (regions.ROOT / words[1]).is_file(), words


def test_every_setting_speaks_chinese_too():
    assert reference.missing() == [], "add these to tools/zh_settings.yaml"


def test_no_translation_outlives_its_text():
    assert set(reference.translations()) - set(reference.texts()) == set()


def test_a_page_without_the_region_is_refused():
    with pytest.raises(ValueError, match="expected one region 'x', found 0"):
        regions.filled("nothing here", "x", "text")


def test_every_family_stands_in_the_atlas():
    pages = {path.stem for path in (regions.ROOT / "docs" / "en" / "atlas").glob("*.md")}
    assert [name for name in MODELS.names() if name not in pages and name.rstrip("0123456789") not in pages] == []
