"""A report page: one HTML file with nothing outside it, readable without scripts, in light and dark.

Charts are matplotlib figures kept as SVG whose text stays text, so Chinese labels use the reader's own fonts; bars are rows of a
table, which a page writes without matplotlib (it takes longer to load and to lay out than a small dataset to prepare).
"""

import html
import io
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.core import files

_STYLE = """
:root{color-scheme:light dark;--ink:#1c1f24;--paper:#fff;--line:#d8dce2;--soft:#f4f5f7;--accent:#b5432a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--paper:#15171a;--line:#363b42;--soft:#1e2126;--accent:#ef8a6c}}
body{font:16px/1.6 system-ui,-apple-system,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;color:var(--ink);
background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin-bottom:.2rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;font-size:.9rem;margin:.8rem 0;display:block;overflow-x:auto}
td,th{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}th{background:var(--soft)}
pre,code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.85rem}
pre{background:var(--soft);padding:.7rem;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}
figure{margin:1rem 0}figure svg{max-width:100%;height:auto;color:var(--ink)}figure svg text{fill:currentColor}
figcaption,.small{color:#7a828c;font-size:.85rem}.facts{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}
.facts div{background:var(--soft);border-left:3px solid var(--accent);padding:.4rem .8rem}
.facts b{display:block;font-size:1.15rem}
summary{cursor:pointer;color:var(--accent)}
table.bars{display:table;width:100%}table.bars td,table.bars th{white-space:nowrap}table.bars td.bar{width:99%;min-width:6rem}
.bar i{display:inline-block;height:.8em;vertical-align:middle;min-width:2px}th i{display:inline-block;width:.7em;height:.7em}
i.p0{background:var(--accent)}i.p1{background:#3a6ea5}
"""


class Page:
    """Collects the parts of a report in reading order; every text is escaped."""

    def __init__(self, title: str, subtitle: str = "", language: str = "en"):
        self.title, self.language = title, language
        self._parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="small">{html.escape(subtitle)}</p>' if subtitle else ""]

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def facts(self, facts: Mapping[str, Any]) -> None:
        """A row of headline figures."""
        cells = "".join(f"<div><b>{html.escape(_show(value))}</b>{html.escape(name)}</div>" for name, value in facts.items())
        self._parts.append(f'<div class="facts">{cells}</div>')

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """A table; numbers stand right."""
        rows = [list(row) for row in rows]
        numbers = {place for place, value in enumerate(rows[0]) if _is_number(value)} if rows else set()
        head = "".join(f"<th{' class=n' * (place in numbers)}>{html.escape(name)}</th>" for place, name in enumerate(columns))
        body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def bars(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> None:
        """A table whose rows end in a bar: first a name, then one or two amounts, which are the parts of the bar."""
        rows = [list(row) for row in rows]
        whole = max((sum(row[1:]) for row in rows), default=0) or 1
        colours = [f'<i class="p{part}"></i>' if len(columns) > 2 else "" for part in range(len(columns) - 1)]
        amounts = zip(colours, columns[1:], strict=True)
        head = f"<th>{html.escape(columns[0])}</th>" + "".join(
            f"<th class=n>{mark} {html.escape(name)}</th>" for mark, name in amounts
        )
        body = "".join(f"<tr>{''.join(map(_cell, row))}<td class=bar>{_bar(row[1:], whole)}</td></tr>" for row in rows)
        table = f'<table class="bars"><thead><tr>{head}<th></th></tr></thead><tbody>{body}</tbody></table>'
        self._parts.append(f"<figure>{table}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def code(self, text: str) -> None:
        """Text as it is, in a fixed-width face."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def fold(self, title: str, text: str) -> None:
        """Long text behind a click."""
        self._parts.append(f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>")

    def markup(self, trusted: str) -> None:
        """HTML made by our own code, with every foreign text in it already escaped."""
        self._parts.append(trusted)

    def figure(self, figure: Any, caption: str = "") -> None:
        """A matplotlib figure as inline SVG. The caption is also its text for those who cannot see it."""
        import matplotlib as mpl

        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "danlu"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's fonts draw the text, not ours
            _clear_paper(figure)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
        svg = buffer.getvalue().replace("#000000", "currentColor")  # axes follow the page into the dark
        svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1)
        self._parts.append(f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def render(self) -> str:
        """The whole page."""
        return (
            f'<!doctype html>\n<html lang="{self.language}"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body>\n"
            + "\n".join(part for part in self._parts if part)
            + "\n</body></html>\n"
        )


def _clear_paper(figure: Any) -> None:
    """Let the page show through: figure, axes and legends have no ground of their own."""
    grounds = [figure.patch, *(axes.patch for axes in figure.axes)]
    for legend in (legend for axes in figure.axes if (legend := axes.get_legend()) is not None):
        grounds.append(legend.get_frame())
    for ground in grounds:
        ground.set_alpha(0)


def write_report(folder: Path, page: Page, data: Mapping[str, Any]) -> None:
    """`report.html` for people and `report.json` with the same figures for programs."""
    files.write_text(folder / "report.html", page.render())
    files.write_text(folder / "report.json", json.dumps(data, ensure_ascii=False, indent=1, default=str) + "\n")


def new_figure(width: float = 8.0, height: float = 3.2, columns: int = 1) -> Any:
    """A matplotlib figure and its axes, made without touching any global or display state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def _bar(parts: Sequence[float], whole: float) -> str:
    drawn = (f'<i class="p{part}" style="width:{100 * value / whole:.2f}%"></i>' for part, value in enumerate(parts) if value)
    return "".join(drawn)


def _cell(value: Any) -> str:
    kind = ' class="n"' if _is_number(value) else ""
    return f"<td{kind}>{html.escape(_show(value))}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: Any) -> str:
    if not _is_number(value):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
