"""Reading the documentation as text: pages, headings, links, code blocks."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAIRS = sorted(path.relative_to(DOCS / "en") for path in (DOCS / "en").rglob("*.md"))
TUTORIALS = (
    "prepare", "tokenizer", "pretrain", "evaluate", "finetune", "instruct", "adapters", "preferences", "reinforcement", "distil",
    "judging", "generate-chat", "export", "inspect", "ancestors", "masked", "objectives",
)  # fmt: skip

_FENCE = re.compile(
    r"(?P<run><!-- run -->\n+)?^(?P<indent> *)```(?P<kind>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, whether `<!-- run -->` stands above it, and its line."""

    kind: str
    text: str
    run: bool
    line: int


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page in order."""
    found = []
    for match in _FENCE.finditer(page):
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(match["kind"], text, match["run"] is not None, page[: match.start()].count("\n") + 1))
    return found


def prose(page: str) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", page)


def headings(page: str) -> list[tuple[int, str | None]]:
    """Level and explicit anchor of every heading."""
    found = re.findall(r"^(#+) [^\n]*?(?:\{#([\w.-]+)\})?$", prose(page), re.MULTILINE)
    return [(len(marks), anchor or None) for marks, anchor in found]


def links(page: str) -> list[str]:
    """Targets of the links and pictures of a page."""
    text = prose(page)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"""(?:src|srcset|href)=["']([^"']+)["']""", text)
