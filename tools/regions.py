"""A marked region of a page is written by a program, the rest by people.

A region stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("en", "zh")


def filled(page: str, name: str, text: str) -> str:
    """The page with the region replaced. Raises ValueError when it has no such region or more than one.

    >>> filled("a <!-- begin: x -->old<!-- end: x --> b", "x", "new")
    'a <!-- begin: x -->\\nnew\\n<!-- end: x --> b'
    """
    pattern = re.compile(rf"(<!-- begin: {name} -->).*?(<!-- end: {name} -->)", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"expected one region {name!r}, found {len(pattern.findall(page))}")
    return pattern.sub(lambda found: f"{found[1]}\n{text.strip()}\n{found[2]}", page)


def write_or_check(pages: Mapping[Path, str], words: list[str] | None = None) -> int:
    """Write the pages; with `--check` only say which are stale. Returns 1 when one was stale under --check."""
    check = "--check" in (sys.argv[1:] if words is None else words)
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not check:
            path.write_text(text := pages[path], encoding="utf-8")
            assert text.endswith("\n"), path
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
    return int(check and bool(stale))
