"""Draw the pictures of docs/*/atlas and put the code that each equation became beside it.

A picture is described in tools/atlas_pictures.yaml, read from the bottom up: a word is a box (`kind: label`), `skip` a
residual stretch, `beside` branches that run in parallel. A page names code as `<!-- begin: code nn/rope.py turns -->`; the
region is filled with that function as it stands in the sources, so text and code cannot part.
"""

import ast
import html
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.regions import LANGUAGES, ROOT, filled, write_or_check

PICTURES = ROOT / "tools" / "atlas_pictures.yaml"
ASSETS = ROOT / "docs" / "assets" / "atlas"
WIDTH, HEIGHT, GAP, MARGIN = 190, 34, 16, 26
KINDS = ("embed", "norm", "attn", "mlp", "mix", "head", "note")
_STYLE = """
.ink{stroke:#3a3f47;fill:none;stroke-width:1.4}.box{stroke:#3a3f47;stroke-width:1.2}
text{font:13px system-ui,sans-serif;fill:#1c1f24}
.small{font-size:11px;fill:#6b727c}.embed{fill:#dcefdc}.norm{fill:#eceef1}.attn{fill:#f8dcd4}.mlp{fill:#dbe6f6}.mix{fill:#e8def5}
.head{fill:#f6ecd0}.note{fill:none;stroke:none}.stack{fill:none;stroke:#9aa1ab;stroke-dasharray:5 4}.tip{fill:#3a3f47}
@media(prefers-color-scheme:dark){.ink,.box{stroke:#aeb4bd}text{fill:#e6e8eb}.small{fill:#9aa1ab}.embed{fill:#24402a}
.norm{fill:#2c3037}.attn{fill:#55291d}.mlp{fill:#1f3552}.mix{fill:#3a2a55}.head{fill:#4b3d15}.tip{fill:#aeb4bd}}
"""


@dataclass
class Sheet:
    """Shapes of a picture; y grows upwards while drawing and is turned round at the end."""

    shapes: list[str] = field(default_factory=list)
    height: float = 0.0
    width: float = 0.0

    def add(self, shape: str, y: float = 0.0) -> None:
        """One shape; `{+3}` in it is the place 3 above `y`."""
        self.shapes.append(re.sub(r"\{([+-][\d.]+)\}", lambda found: f"{{{y + float(found[1])}}}", shape))

    def path(self, kind: str, *points: tuple[float, float]) -> None:
        """A line through points (x, y)."""
        self.add(f'<path class="{kind}" d="M' + " L".join(f"{x:g} {{{y:+g}}}" for x, y in points) + '"/>')

    def svg(self, label: str) -> str:
        """The whole picture."""
        height = self.height + MARGIN
        body = re.sub(r"\{(-?[\d.]+)\}", lambda found: f"{height - float(found[1]):g}", "\n".join(self.shapes))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {height:g}" width="{self.width:g}" '
            f'role="img" aria-label="{html.escape(label)}"><style>{_STYLE}</style>\n{body}\n</svg>\n'
        )


def picture(columns: list[dict[str, Any]], label: str) -> str:
    """Columns side by side, each from the bottom up."""
    sheet, x = Sheet(), float(MARGIN)
    for column in columns:
        width = _width(column["parts"])
        y = _draw(sheet, column["parts"], x + width / 2, MARGIN)
        sheet.height = max(sheet.height, y)
        if title := column.get("title"):
            sheet.add(f'<text class="small" x="{x + width / 2:g}" y="{{+6}}" text-anchor="middle">{html.escape(title)}</text>')
        x += width + 2 * MARGIN
    sheet.width = x - MARGIN
    return sheet.svg(label)


def _width(parts: list[Any]) -> float:
    """Room that parts above each other need."""
    widest = float(WIDTH)
    for part in parts:
        match part:
            case {"beside": branches}:
                widest = max(widest, sum(_width(branch) for branch in branches) + GAP * (len(branches) - 1))
            case {"skip": inner}:
                widest = max(widest, _width(inner) + 44)
            case {"times": _, "of": inner}:
                widest = max(widest, _width(inner) + 36)
    return widest


def _draw(sheet: Sheet, parts: list[Any], x: float, y: float) -> float:
    """Parts one above the other around x; returns where the last one ends."""
    for place, part in enumerate(parts):
        match part:
            case {"skip": inner}:
                y = _skip(sheet, inner, x, y)
            case {"beside": branches}:
                y = _beside(sheet, branches, x, y)
            case {"times": times, "of": inner}:
                y = _stack(sheet, str(times), inner, x, y)
            case _:
                ((kind, label),) = part.items()
                y = _box(sheet, kind, str(label), x, y)
        if place + 1 < len(parts):
            y = _arrow(sheet, x, y)
    return y


def _box(sheet: Sheet, kind: str, label: str, x: float, y: float) -> float:
    assert kind in KINDS, kind
    lines = label.split("|")
    height = HEIGHT + 14 * (len(lines) - 1)
    place = f'x="{x - WIDTH / 2:g}" y="{{+{height}}}" width="{WIDTH}" height="{height}"'
    sheet.add(f'<rect class="box {kind}" rx="6" {place}/>', y)
    for number, line in enumerate(lines):
        up = height - 21 - 14 * number if len(lines) > 1 else height / 2 - 5
        style = ' class="small"' if number else ""
        sheet.add(f'<text{style} x="{x:g}" y="{{{up:+g}}}" text-anchor="middle">{html.escape(line.strip())}</text>', y)
    return y + height


def _arrow(sheet: Sheet, x: float, y: float) -> float:
    end = y + GAP
    sheet.path("ink", (x, y), (x, end))
    sheet.path("tip", (x - 4, end - 6), (x + 4, end - 6), (x, end))
    return end


def _skip(sheet: Sheet, inner: list[Any], x: float, y: float) -> float:
    """A stretch whose input is added to its output."""
    side = x + _width(inner) / 2 + 12
    plus = _arrow(sheet, x, _draw(sheet, inner, x, _arrow(sheet, x, y))) + 9
    sheet.add(f'<circle class="box norm" cx="{x:g}" cy="{{+0}}" r="9"/>', plus)
    sheet.add(f'<text x="{x:g}" y="{{-5}}" text-anchor="middle">+</text>', plus)
    sheet.path("ink", (x, y + 4), (side, y + 4), (side, plus), (x + 9, plus))
    return plus + 9


def _beside(sheet: Sheet, branches: list[list[Any]], x: float, y: float) -> float:
    """Branches of one input whose outputs meet."""
    widths = [_width(branch) for branch in branches]
    left, tops, centres = x - (sum(widths) + GAP * (len(branches) - 1)) / 2, [], []
    for branch, width in zip(branches, widths, strict=True):
        centres.append(left + width / 2)
        tops.append(_draw(sheet, branch, centres[-1], y + GAP))
        left += width + GAP
    top = max(tops) + GAP
    for centre, end in zip(centres, tops, strict=True):
        sheet.path("ink", (x, y), (x, y + 4), (centre, y + 4), (centre, y + GAP))
        sheet.path("ink", (centre, end), (centre, top - 4), (x, top - 4), (x, top))
    return top


def _stack(sheet: Sheet, times: str, inner: list[Any], x: float, y: float) -> float:
    """A part that is repeated, in a dashed frame."""
    top = _draw(sheet, inner, x, y + 10) + 10
    width = _width(inner) + 36
    place = f'x="{x - width / 2:g}" y="{{+{top - y:g}}}" width="{width:g}" height="{top - y:g}"'
    sheet.add(f'<rect class="stack" rx="8" {place}/>', y)
    sheet.add(f'<text class="small" x="{x - width / 2 + 6:g}" y="{{+6}}">× {html.escape(times)}</text>', y)
    sheet.path("ink", (x, y), (x, y + 10))
    sheet.path("ink", (x, top - 10), (x, top))
    return top


def code(path: str, name: str) -> str:
    """A function or class of src/danlu as a fenced block with its place."""
    text = (ROOT / "src" / "danlu" / path).read_text(encoding="utf-8")
    *outer, last = name.split(".")
    body: list[ast.stmt] = ast.parse(text).body
    for part in [*outer, last]:
        found = next((node for node in body if getattr(node, "name", None) == part), None)
        if found is None:
            raise ValueError(f"{path} has no {name}")
        body = getattr(found, "body", [])
    assert isinstance(found, ast.FunctionDef | ast.ClassDef)
    first = min([found.lineno, *(decorator.lineno for decorator in found.decorator_list)])
    lines = text.splitlines()[first - 1 : found.end_lineno]
    indent = len(lines[0]) - len(lines[0].lstrip())
    source = "\n".join(line[indent:] for line in lines)
    return f'```python title="src/danlu/{path}, lines {first}-{found.end_lineno}"\n{source}\n```'


def pages() -> dict[Path, str]:
    """Every picture, and every page of the atlas with its code in place."""
    found = {}
    for name, described in yaml.safe_load(PICTURES.read_text(encoding="utf-8")).items():
        found[ASSETS / f"{name}.svg"] = picture(described["columns"], described["label"])
    for language in LANGUAGES:
        for path in sorted((ROOT / "docs" / language / "atlas").glob("*.md")):
            page = path.read_text(encoding="utf-8")
            for place, name in re.findall(r"<!-- begin: code (\S+) (\S+) -->", page):
                page = filled(page, f"code {place} {name}", code(place, name))
            found[path] = page
    return found


if __name__ == "__main__":
    sys.exit(write_or_check(pages()))
