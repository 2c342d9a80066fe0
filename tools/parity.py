"""Measure every family against transformers and write docs/*/parity.md: how far apart the two are, case by case.

python tools/parity.py measures (minutes) and keeps the figures in docs/assets/parity.json; --pages only writes the pages anew.
"""

import json
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.regions import LANGUAGES, ROOT, filled, write_or_check

FIGURES = ROOT / "docs" / "assets" / "parity.json"
COLUMNS = {
    "logits": "logits",
    "loss": "损失",
    "gradients": "梯度（最差参数）",
    "cached decoding": "逐词元解码",
    "folder ours to theirs": "丹炉写、对方读",
    "folder theirs to ours": "对方写、丹炉读",
}
"""What is measured, and its Chinese name."""
HEADS = {"en": ("family", "cases", *COLUMNS), "zh": ("家族", "情形数", *COLUMNS.values())}


def measured() -> dict[str, Any]:
    """Every case of every family, with the versions that took part."""
    from tests.models.parity import measure
    from tests.models.reference import CASES

    cases: dict[str, list[dict[str, Any]]] = {}
    for family, changes in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(family, changes, Path(folder))
        cases.setdefault(family, []).append({"changes": changes, "differences": found})
        print(f"{family} {changes}: worst {max(found.values()):.1e}", file=sys.stderr, flush=True)
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    return {"dtype": "float32", "versions": versions, "cases": cases}


def table(figures: dict[str, Any], language: str) -> str:
    """One row a family: median and worst over its cases."""
    lines = [
        "| " + " | ".join(HEADS[language]) + " |",
        "|---|--:|" + "--:|" * len(COLUMNS),
    ]
    for family, cases in sorted(figures["cases"].items()):
        cells = [f"`{family}`", str(len(cases))]
        for column in COLUMNS:
            values = [case["differences"][column] for case in cases if column in case["differences"]]
            cells.append(f"{statistics.median(values):.1e} / {max(values):.1e}" if values else "–")
        lines.append("| " + " | ".join(cells) + " |")
    every = [value for cases in figures["cases"].values() for case in cases for value in case["differences"].values()]
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    total = f"{statistics.median(every):.1e} / {max(every):.1e}"
    notes = {
        "en": f"Over all {len(every)} figures: median / worst {total} ({versions}, float32).",
        "zh": f"全部 {len(every)} 个数：中位 / 最差 {total}（{versions}，float32）。",
    }
    return "\n".join([*lines, "", notes[language]])


def pages(figures: dict[str, Any]) -> dict[Path, str]:
    """The pages with their table."""
    found = {}
    for language in LANGUAGES:
        path = ROOT / "docs" / language / "parity.md"
        found[path] = filled(path.read_text(encoding="utf-8"), "parity", table(figures, language))
    return found


if __name__ == "__main__":
    if not {"--pages", "--check"} & set(sys.argv[1:]):
        FIGURES.write_text(json.dumps(measured(), indent=1) + "\n", encoding="utf-8")
    sys.exit(write_or_check(pages(json.loads(FIGURES.read_text(encoding="utf-8")))))
