"""A report is one file, and foreign text in it stays text."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.core.page import Page, new_figure, write_report

ATTACK = """</title></style></pre><script>alert('x')</script><img src=x onerror="alert(1)">&<b>"'"""


class Reader(HTMLParser):
    """Collects the tags and the text that a browser would see."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def page_with(text):
    page = Page(text, text)
    page.heading(text)
    page.text(text)
    page.facts({text: text})
    page.table([text], [[text], [5], [True]])
    page.bars([text, text], [[text, 5], ["none", 0]], text)
    page.code(text)
    page.fold(text, text)
    figure, axes = new_figure(2, 1)
    axes.plot([2, 3, 5])
    page.figure(figure, text)
    return page.render()


def test_an_attack_in_every_place_stays_text():
    seen = Reader(page_with(ATTACK))
    assert not {"script", "img", "iframe"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert seen.text.count(ATTACK) >= 13


def test_bars_are_as_long_as_their_amounts():
    page = Page("x")
    page.bars(["reason", "went", "stayed"], [["a", 25, 75], ["b", 0, 50], ["c", 0, 0]], "what became of them")
    page.bars(["reason", "went"], [], "nothing")
    drawn = page.render()
    lengths = re.findall(r'class="p(\d)" style="width:([\d.]+)%"', drawn)
    assert lengths == [("0", "25.00"), ("1", "75.00"), ("1", "50.00")]
    head = re.search(r"<thead>.*?</thead>", drawn)[0]
    assert head.count("<i ") == 2  # colours are told apart where there is more than one
    assert [name for name in re.findall(r"<th[^>]*>(?:<i[^>]*></i> )?(\w*)", head) if name] == ["reason", "went", "stayed"]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20))
def test_any_text_is_shown_as_it_is(text):
    page = Page("x")
    page.code(text)
    assert text in Reader(page.render()).text


def test_nothing_is_loaded_from_outside():
    html = page_with("plain")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", html)
    assert "<script" not in html and "@import" not in html


def test_numbers_stand_right_and_yes_no_is_no_number():
    page = Page("x")
    page.table(["a"], [[1234567], [0.123456], [True]])
    assert '<td class="n">1,234,567</td>' in page.render() and '<td class="n">0.1235</td>' in page.render()
    assert "<td>True</td>" in page.render()


def test_a_figure_is_the_same_bytes_each_time_and_its_caption_is_its_alternative():
    def drawn():
        page = Page("x")
        figure, (left, right) = new_figure(4, 2, columns=2)
        left.plot([2, 3, 5])
        right.set_title("炉温")
        page.figure(figure, "heat & time")
        return page.render()

    html = drawn()
    assert html == drawn()
    assert 'aria-label="heat &amp; time"' in html and "炉温" in html
    ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_report_is_a_page_and_the_same_figures_for_programs(tmp_path, language):
    page = Page("Report", language=language)
    page.markup("<p>ours</p>")
    write_report(tmp_path, page, {"loss": 0.5, "path": tmp_path, "炉": 1})
    assert f'<html lang="{language}">' in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == {"loss": 0.5, "path": str(tmp_path), "炉": 1}
