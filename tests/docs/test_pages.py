"""The two languages say the same, and every link leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAIRS, ROOT, blocks, headings, links, prose

TWINS = [(DOCS / "en" / page, DOCS / "zh" / page) for page in PAIRS]
TWINS += [(ROOT / "README.md", ROOT / "README.zh-CN.md"), (ROOT / "CONTRIBUTING.md", ROOT / "CONTRIBUTING.zh-CN.md")]
EVERY = [path for pair in TWINS for path in pair]


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_both_languages_have_the_same_pages():
    chinese = sorted(path.relative_to(DOCS / "zh") for path in (DOCS / "zh").rglob("*.md"))
    assert chinese == PAIRS and len(PAIRS) > 10


@pytest.mark.parametrize(("english", "chinese"), TWINS, ids=name)
def test_twins_have_the_same_headings_and_the_same_code(english, chinese):
    assert headings(text(english)) == headings(text(chinese))
    one, two = ([code(block) for block in blocks(text(path))] for path in (english, chinese))
    assert one == two


def code(block):
    """A block without its comments, which each language says in its own words."""
    return (
        block.kind,
        block.run,
        [line.partition("  #")[0].rstrip() for line in block.text.splitlines() if not line.startswith("#")],
    )


@pytest.mark.parametrize("english", [path for path, _ in TWINS], ids=name)
def test_headings_that_can_be_linked_are_the_same_address_in_both_languages(english):
    missing = [level for level, anchor in headings(text(english)) if level in (2, 3) and anchor is None]
    assert not missing or english.parent == ROOT, "give second and third level headings an explicit {#anchor}"


@pytest.mark.parametrize("path", [chinese for _, chinese in TWINS], ids=name)
def test_a_chinese_page_is_written_in_chinese(path):
    written = re.sub(r"<!-- begin: .*?<!-- end: ", "", text(path), flags=re.DOTALL)  # not what programs filled in
    body = re.sub(r"`[^`]*`|\{#[^}]*\}|<[^>]*>|\]\([^)]*\)", "", prose(written))
    han, latin = len(re.findall(r"[\u4e00-\u9fff]", body)), len(re.findall(r"[A-Za-z]+", body))
    assert han > latin


@pytest.mark.parametrize("path", [path for path in EVERY if path.is_relative_to(DOCS / "zh")], ids=name)
def test_a_chinese_paragraph_is_one_line(path):
    """A line break inside it would show as a space between two characters."""
    broken = re.findall(
        r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]\n[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]", prose(text(path))
    )
    assert broken == []


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_every_link_inside_the_project_leads_somewhere(path):
    for link in links(text(path)):
        if re.match(r"(https?|mailto):", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{link}: no such file"
        if anchor and target.suffix == ".md" and target.is_relative_to(DOCS):
            anchors = {found for _, found in headings(text(target))}
            assert anchor in anchors, f"{link}: no such heading"


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_nothing_is_loaded_from_another_host(path):
    assert not re.findall(r"""!\[[^\]]*\]\(https?:|(?:src|srcset)=["']https?:""", text(path))


def test_the_site_navigation_names_every_page():
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads over tags that only mkdocs knows."""

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    site = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)

    def pages(entry):
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for part in entry.values():
                yield from pages(part)
        else:
            for part in entry:
                yield from pages(part)

    assert sorted(pages(site["nav"])) == [page.as_posix() for page in PAIRS]
    chinese = next(language for language in site["plugins"][1]["i18n"]["languages"] if language["locale"] == "zh")

    def titles(entry):
        for part in entry:
            for title, below in part.items():
                yield title
                yield from titles(below) if isinstance(below, list) else ()

    assert set(titles(site["nav"])) == set(chinese["nav_translations"])
