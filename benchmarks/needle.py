"""Longer contexts by interpolation, seen through a needle in a haystack: a model trained here, before and after.

A small model learns from episodes (sentences about nothing, and passcodes that come up again) of one length. Then the same
weights read texts up to four times as long: as they are; with scaled rotary frequencies and no further training; and after a
short training on long episodes, with each scaling and, as a control, without any. Writes results/needle.json and
docs/assets/needle.svg. Usage: needle.py [--work FOLDER] [--steps 1500] [--tune 100] [--seed 0]
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LENGTH, FACTOR = 64, 4
LENGTHS = [48, 64, 128, 192, 256]
FACT = "Passcode {name} {code}."
"""Without words between the two, so that a model learns in minutes to look back."""
SCALED = {
    "linear": {"rope_type": "linear", "factor": FACTOR},
    "dynamic NTK": {"rope_type": "dynamic", "factor": FACTOR},
    "YaRN": {"rope_type": "yarn", "factor": FACTOR},
}
MODEL = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 256}


def episode(random, characters):
    """Sentences about nothing, and passcodes of a few names, each said again in other places; few or many."""
    from danlu.evaluate.haystack import CODES, NAMES, sentence

    names = random.choice(NAMES, 4, replace=False)
    codes = dict(zip(names, random.choice(CODES, 4, replace=False), strict=True))
    said, length, facts = [], 0, random.uniform(0.3, 1.0)
    while length < characters:
        name, chance = random.choice(names), random.random()
        said.append(FACT.format(name=name, code=codes[name]) if chance < facts else sentence(random))
        length += len(said[-1]) + 1
    return " ".join(said)


def write_episodes(path, count, characters, seed):
    """`count` episodes, one JSON line each."""
    import numpy as np

    random = np.random.default_rng(seed)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps({"id": f"e{number}", "text": episode(random, characters)}) + "\n")


def stretched(model, out, scaling):
    """The same weights under another rotary scaling, and no training."""
    from danlu.models import MODELS
    from danlu.models.weights import load_model, save_model
    from danlu.stages.start import model_settings

    shutil.copytree(model, out)
    (out / "lineage.json").unlink()  # no stage has made this folder
    settings = model_settings(model, MODELS["qwen3"].Config(rope_scaling=scaling))
    save_model(load_model(model, config=settings), out)


def tuned(base, out, options, changes):
    """A short training on long episodes, as a user would ask for it."""
    import danlu

    danlu.pretrain(options.work / "long-data", out=out, init=base, model=changes, steps=options.tune, batch_rows=16,
                   row_tokens=FACTOR * LENGTH, dtype="float32", threads=1, seed=options.seed)  # fmt: skip


def draw(scores, path):
    """The heat maps beside one another, as one picture."""
    import matplotlib as mpl

    from danlu.core.page import new_figure
    from danlu.evaluate.needle import heat_map

    columns = -(-len(scores) // 2)
    figure, _ = new_figure(3.1 * columns, 5.4)
    figure.clear()
    for axes, score in zip(figure.subplots(2, columns, sharex=True, sharey=True).flat, scores, strict=False):
        heat_map(score, axes)
        axes.set_title(score.name, fontsize=9)
        axes.label_outer()
    for axes in list(figure.axes)[len(scores) :]:
        axes.remove()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "danlu"}):
        figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def prepared(options, clocked):
    """Episodes of both lengths as datasets, a tokenizer, and the model that learned the short ones."""
    import danlu

    work = options.work
    for name, count, characters, seed in (("short", 40000, 330, 1), ("long", 3000, 1320, 2)):
        if not (work / f"{name}.jsonl").exists():
            write_episodes(work / f"{name}.jsonl", count, characters, options.seed + seed)
        source = str(work / f"{name}.jsonl")
        clocked(f"{name}-data", lambda out, source=source: danlu.prepare([source], out=out, filters=[], dedups=[]))
    clocked("tokenizer", lambda out: danlu.tokenizer(work / "short-data", out=out, vocab_size=768))
    return clocked("base", lambda out: danlu.pretrain(
        work / "short-data", out=out, tokenizer=work / "tokenizer", steps=options.steps, row_tokens=LENGTH, model=MODEL,
        batch_rows=32, dtype="float32", threads=1, seed=options.seed,
    ))  # fmt: skip


def main():
    from benchmarks import harness

    from danlu.engine.model import load
    from danlu.evaluate.haystack import Needle
    from danlu.evaluate.needle import search

    parser = harness.arguments(__doc__)
    parser.add_argument("--work", type=Path, default=Path("needle.work"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--tune", type=int, default=60)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    clock = work / "seconds.json"
    used = json.loads(clock.read_text()) if clock.exists() else {}

    def clocked(name, make):
        """Make a folder once, and note the processor seconds that it took."""
        if not (work / name).exists():
            started = time.process_time()
            make(work / name)
            used[name] = round(used.get(name, 0) + time.process_time() - started, 1)
            clock.write_text(json.dumps(used))
        return work / name

    base = prepared(options, clocked)
    folders = {"as trained": base}
    for name, scaling in SCALED.items():
        folders[f"{name}, no training"] = clocked(name, lambda out, scaling=scaling: stretched(base, out, scaling))
    trained = {"no scaling": {"max_position_embeddings": FACTOR * LENGTH}}
    trained |= {name: {"rope_scaling": SCALED[name]} for name in ("linear", "YaRN")}
    for name, changes in trained.items():
        folders[f"{name}, {options.tune} steps"] = clocked(
            f"{name} tuned", lambda out, changes=changes: tuned(base, out, options, changes)
        )  # fmt: skip
    scores, asked = [], {"fact": FACT, "trials": options.trials, "seed": options.seed}
    for name, folder in folders.items():
        scores.append(search(load(folder), name, Needle(lengths=LENGTHS, distractors=0, **asked)))
        print(name, [f"{row['found']:.0%}" for row in scores[-1].figures()["by_length"]], flush=True)
    others = search(load(base), "as trained", Needle(lengths=[LENGTH], distractors=3, **asked)).figures()
    draw(scores, harness.RESULTS.parents[1] / "docs" / "assets" / "needle.svg")
    harness.save(
        "needle", claim="rotary scaling and a short training carry a model's recall to four times its context",
        target="share found at 4x the context after tuning within 10 points of that at 1x before",
        settings={"context": LENGTH, "factor": FACTOR, "lengths": LENGTHS, "model": MODEL, "steps": options.steps,
                  "tune": options.tune, "trials": options.trials, "seed": options.seed, "threads": 1},
        figures={"models": [score.figures() for score in scores], "with three distractors": others, "processor_seconds": used},
    )  # fmt: skip


if __name__ == "__main__":
    main()
