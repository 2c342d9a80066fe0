"""Show what a finished quickstart gave, in README*.md and docs/*/quickstart.md: figures, curves and completions as they were.

`python tools/quickstart_output.py FOLDER` takes them from a quickstart's folder into docs/assets; without FOLDER the pages are
written from what lies there.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from danlu.core.units import count, duration
from tools.regions import LANGUAGES, ROOT, filled, write_or_check

RECORD = ROOT / "docs" / "assets" / "quickstart.json"
CURVES = ROOT / "docs" / "assets" / "quickstart-curves.svg"
_WORDS = {
    "en": {
        "on": "On {processor}, {cores} cores, {date}, `make quickstart BUDGET={budget}` did this:",
        "head": ("step", "result", "time"),
        "data": ("data set", "{read} documents: {kept} kept, {dropped} dropped by rules, {copies} copies, {quarantined} unread"),
        "model": ("model", "{parameters} weights, {vocab} tokens of vocabulary, trained on {tokens} tokens in {steps} steps"),
        "evaluation": ("evaluation", "{bits:.3f} ± {error:.3f} bits per byte on text it has not seen"),
        "chosen": "What the dial chose, and why:", "curves": "Loss and held-out bits per byte while it learned",
        "completes": "What the model completes after that time (the prompt's lines first):",
    },
    "zh": {
        "on": "在 {processor}（{cores} 核）上，{date}，`make quickstart BUDGET={budget}` 做了这些：",
        "head": ("步骤", "结果", "用时"),
        "data": ("数据集", "{read} 篇文档：留下 {kept}，按规则丢弃 {dropped}，副本 {copies}，读不了 {quarantined}"),
        "model": ("模型", "{parameters} 个权重，词表 {vocab} 个词元，{steps} 步训练了 {tokens} 个词元"),
        "evaluation": ("评估", "在没见过的文本上每字节 {bits:.3f} ± {error:.3f} 比特"),
        "chosen": "旋钮选了什么、为什么：", "curves": "学习途中的损失与留出文本的每字节比特数",
        "completes": "这么长时间之后，模型会这样补全（先是提示的几行）：",
    },
}  # fmt: skip


def take(folder: Path) -> None:
    """Keep a quickstart's figures and curves among the assets."""
    records = {name: _json(folder / name / "lineage.json") for name in ("data", "model", "evaluation", "report")}
    rows = records["data"]["ledger"]["total"]["all"]
    documents = {row: amounts["documents"] for row, amounts in rows.items()}
    plan = _json(folder / "model.run" / "plan.json")["plan"]
    score = records["evaluation"]["metrics"]["models"][0]
    kept = {
        "processor": records["model"]["machine"]["processor"], "cores": records["model"]["machine"]["cores"],
        "date": records["report"]["created"][:10], "budget": records["report"]["settings"]["budget"],
        "read": documents["read"] + documents.get("split", 0), "kept": documents["train"] + documents.get("validation", 0),
        "dropped": sum(value for row, value in documents.items() if row.startswith("dropped")),
        "copies": documents.get("exact copies", 0) + documents.get("near copies", 0),
        "quarantined": documents.get("quarantined", 0),
        "parameters": records["model"]["metrics"]["parameters"], "vocab": plan["vocab_size"],
        "steps": records["model"]["metrics"]["steps"], "tokens": records["model"]["metrics"]["tokens"],
        "bits": score["bits_per_byte"], "error": score["standard_error"], "reasons": plan["reasons"],
        "seconds": {name: records[name]["wall_s"] for name in ("data", "model", "evaluation")},
        "completions": records["report"]["metrics"]["completions"],
    }  # fmt: skip
    RECORD.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    svg = page[page.index("<svg") : page.index("</svg>") + len("</svg>")]
    CURVES.write_text(svg.replace("<svg", '<svg style="background:#fff"', 1) + "\n", encoding="utf-8")


def region(language: str, picture: str) -> str:
    """The part of a page that shows the record."""
    kept, words = _json(RECORD), _WORDS[language]
    shown = {**kept, "parameters": count(kept["parameters"]), "tokens": count(kept["tokens"]), "budget": _budget(kept["budget"])}
    lines = [words["on"].format(**shown), "", f"| {' | '.join(words['head'])} |", "|---|---|---|"]
    for step in ("data", "model", "evaluation"):
        name, result = words[step]
        lines.append(f"| {name} | {result.format(**shown)} | {duration(kept['seconds'][step])} |")
    lines += ["", words["chosen"], "", "```text", *kept["reasons"], "```", "", f"![{words['curves']}]({picture})", ""]
    lines += [words["completes"], ""]
    for prompt, answer in kept["completions"].items():
        lines += ["```text", *(line.rstrip() for line in (prompt + answer).splitlines()), "```", ""]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """What the pages with this region must hold."""
    found = {}
    for language, readme in zip(LANGUAGES, ("README.md", "README.zh-CN.md"), strict=True):
        for path, prefix in ((ROOT / readme, "docs/"), (ROOT / "docs" / language / "quickstart.md", "../")):
            text = region(language, f"{prefix}assets/{CURVES.name}")
            found[path] = filled(path.read_text(encoding="utf-8"), "quickstart", text)
    return found


def _budget(text: str) -> str:
    """A budget in the short form that people type."""
    return duration(float(text[:-1])) if text.endswith("s") and text[:-1].replace(".", "").isdigit() else text


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    folders = [Path(word) for word in sys.argv[1:] if not word.startswith("--")]
    for folder in folders:
        take(folder)
    sys.exit(write_or_check(pages()))
