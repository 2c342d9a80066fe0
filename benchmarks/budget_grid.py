"""The budget dial against a grid of alternatives at equal time: how far from the best does it end?

For each budget and corpus: `danlu pretrain --budget B` as it is, then the same command with sizes, vocabulary, rates or batch
fixed to other values. Every model is then scored by `danlu evaluate` on the same held-out text, all of it: what a run measures
of itself while training is a sample that grows with the run. Every cell is kept as soon as it is done, so an interrupted grid
goes on, and two corpora can run side by side, each with a --work folder and a core of its own. Run it on a quiet machine: all
cells share its speed.
Usage: budget_grid.py --text FILE --corpus en --budgets 1m 3m [--cells dial 128x2-v2048 ...]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


def shape(width, layers, vocab):
    return {"model.hidden_size": width, "model.num_hidden_layers": layers, "vocab_size": vocab}


CELLS = {
    "dial": {},
    **{f"{width}x{layers}-v{vocab}": shape(width, layers, vocab) for width, layers, vocab in (
        (64, 2, 1024), (64, 2, 4096), (96, 3, 2048), (96, 4, 2048), (96, 4, 4096), (96, 8, 2048), (96, 8, 4096),
        (128, 2, 1024), (128, 2, 2048), (128, 2, 4096), (128, 4, 2048), (128, 8, 2048),
        (192, 3, 1024), (192, 3, 4096), (256, 4, 2048), (256, 4, 8192), (384, 6, 4096),
    )},
    "dial, half the rate": {"optimiser.learning_rate": 0.5},
    "dial, twice the rate": {"optimiser.learning_rate": 2.0},
    "dial, half the batch": {"batch_rows": 0.5},
    "dial, twice the batch": {"batch_rows": 2.0},
}  # fmt: skip
"""Values fixed in each cell; those of the cells named after the dial are factors of what it chose."""


def main(options):
    from benchmarks.harness import RESULTS, save

    path = RESULTS / "budget_grid.json"
    work = options.work
    dataset = work / f"{options.corpus}.dataset"
    if not dataset.exists():
        prepare(options.text, work, dataset)
    for budget in options.budgets:
        for name in options.cells or CELLS:
            cells = json.loads(path.read_text())["figures"]["cells"] if path.is_file() else {}
            key = f"{options.corpus}, {budget}, seed {options.seed}, {name}"
            if key in cells:
                continue
            plan = cells.get(key.replace(name, "dial"), {}).get("plan") if name.startswith("dial,") else None
            if name.startswith("dial,") and plan is None:
                continue  # its factors need the dial's own cell
            cell = run_cell(dataset, work / "model", budget, options.seed, resolve(CELLS[name], plan))
            kept = json.loads(path.read_text()) if path.is_file() else {"figures": {"cells": {}}}
            cells = {**kept["figures"]["cells"], key: cell}
            print(key, {k: v for k, v in cells[key].items() if k != "plan"}, file=sys.stderr, flush=True)
            save("budget_grid", claim=__doc__.splitlines()[0], target="within 3 % of the best of >= 12; ends within 10 %",
                 settings={"cells": CELLS, "command": "danlu pretrain DATASET --budget B"},
                 figures={"summary": summary(cells), "cells": cells}, notes=kept.get("notes", ""))  # fmt: skip
    if path.is_file():
        print(json.dumps(json.loads(path.read_text())["figures"]["summary"], indent=1))


def prepare(text, work, dataset):
    """A dataset of the text's blocks; each a document, so that a share can be held out."""
    work.mkdir(parents=True, exist_ok=True)
    body = text.read_text(encoding="utf-8")
    source = work / f"{dataset.name}.jsonl"
    with source.open("w", encoding="utf-8") as lines:
        for start in range(0, len(body), 4000):
            lines.write(json.dumps({"text": body[start : start + 4000]}, ensure_ascii=False) + "\n")
    subprocess.run([sys.executable, "-m", "danlu", "prepare", str(source), "-o", str(dataset), "--holdout", "0.05"], check=True)


def resolve(changes, plan):
    """Factors become values of the dial's plan."""
    if plan is None:
        return changes
    chosen = {"optimiser.learning_rate": plan["optimiser"]["learning_rate"], "batch_rows": plan["rows"]}
    fixed = {"vocab_size": plan["vocab_size"], "model.hidden_size": plan["model"]["hidden_size"],
             "model.num_hidden_layers": plan["model"]["num_hidden_layers"], "row_tokens": plan["row_tokens"],
             "batch_rows": plan["rows"]}  # fmt: skip
    factors = {key: factor * chosen[key] for key, factor in changes.items()}
    return {**fixed, **factors, "batch_rows": max(1, int(factors.get("batch_rows", plan["rows"])))}


def run_cell(dataset, out, budget, seed, changes):
    for leftover in (out, out.with_name(out.name + ".run")):
        shutil.rmtree(leftover, ignore_errors=True)
    words = [word for key, value in changes.items() for word in (f"--{key}", str(value))]
    command = [
        sys.executable,
        "-m",
        "danlu",
        "pretrain",
        str(dataset),
        "-o",
        str(out),
        "--budget",
        budget,
        "--seed",
        str(seed),
        *words,
    ]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.monotonic() - started
    if done.returncode:
        return {"failed": done.stderr[-1500:]}
    lineage = json.loads((out / "lineage.json").read_text())
    plans = [json.loads(line) for line in (out.with_name(out.name + ".run") / "events.jsonl").read_text().splitlines()]
    plan = next((event for event in plans if event.get("kind") == "plan" or event.get("event") == "plan"), {})
    metrics = lineage["metrics"]
    keep = ("steps", "tokens", "seconds", "parameters")
    kept = (
        "model",
        "vocab_size",
        "row_tokens",
        "rows",
        "steps",
        "optimiser",
        "dtype",
        "threads",
        "step_s",
        "memory_bytes",
        "bits_per_byte",
    )
    return {"bits_per_byte": score(dataset, out), "by_itself": metrics.get("bits_per_byte"),
            **{key: metrics.get(key) for key in keep}, "wall_s": round(wall, 1), "load_average": os.getloadavg()[0],
            "plan": {key: plan.get(key) for key in kept}}  # fmt: skip


def score(dataset, model):
    """Bits per byte of all held-out text, in windows as long as the rows the model learned from."""
    from danlu.data.shards import read_texts

    text, report = dataset.with_suffix(".heldout.txt"), model.with_name("score")
    if not text.exists():
        text.write_text("\n\n".join(read_texts(dataset, "validation")), encoding="utf-8")
    command = [sys.executable, "-m", "danlu", "evaluate", str(model), "--text", str(text), "-o", str(report), "--overwrite"]
    subprocess.run(command, check=True, capture_output=True)
    figures = json.loads((report / "report.json").read_text())
    return next(value for value in find(figures, "bits_per_byte"))


def find(part, key):
    """Every value under a key, however deep."""
    if isinstance(part, dict):
        for name, value in part.items():
            if name == key:
                yield value
            yield from find(value, key)
    elif isinstance(part, list):
        for value in part:
            yield from find(value, key)


def summary(cells):
    """Per corpus and budget: the dial's bits per byte, the best alternative's, and the distance."""
    found = {}
    for key in cells:
        corpus, budget, seed, _ = key.split(", ", 3)
        here = {other.split(", ", 3)[3]: cell["bits_per_byte"] for other, cell in cells.items()
                if other.startswith(f"{corpus}, {budget}, {seed}, ") and cell.get("bits_per_byte")}  # fmt: skip
        if "dial" in here and len(here) > 1:
            best = min((name for name in here if name != "dial"), key=here.get)
            found[f"{corpus}, {budget}, {seed}"] = {
                "dial": here["dial"], "best alternative": best, "its bits per byte": here[best],
                "dial over best": here["dial"] / here[best] - 1, "alternatives": len(here) - 1,
                "seconds": cells[f"{corpus}, {budget}, {seed}, dial"]["seconds"],
            }  # fmt: skip
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--corpus", required=True, help="a name for the text, such as en or zh")
    parser.add_argument("--budgets", nargs="+", default=["1m"])
    parser.add_argument("--cells", nargs="*", help="which; all when left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/budget_grid"), help="where datasets and models go")
    main(parser.parse_args())
