"""The life of an aligned model, from a base trained here to one that answers, with what every stage gained.

(a) instruction tuning on short English instructions, an identity and Chinese ones; (b) a reward model from pairs, against what
lengths alone would tell; (c) DPO, judged by that reward model and by what was forgotten; (f) translation from English into
Chinese against copying, and titles of Chinese abstracts against their beginnings. Writes results/aligned_life.json.
Usage: aligned_life.py --base FOLDER [--data FOLDER] [--work FOLDER] [--only instruct ...] [--seed 0]
The base is a model folder of `danlu pretrain`; its data set must still be there for what is forgotten to be measured.
"""

import argparse
import csv
import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

NAME, AUTHOR = "Danlu", "the Danlu authors"
PARTS = ("instruct", "reward", "dpo", "translate", "titles")


def write(path, rows):
    """Rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def identity(data, held_out):
    """Questions about who it is, in English; every fourth is held out."""
    rows = json.loads((data / "instruct_demo/identity.json").read_text(encoding="utf-8"))
    told = [{**row, "output": row["output"].replace("{{name}}", NAME).replace("{{author}}", AUTHOR)} for row in rows]
    return [row for at, row in enumerate(told) if (at % 4 == 3) == held_out]


def instructions(data):
    """English instructions, the identity five times, Chinese instructions with short answers."""
    english = json.loads((data / "instruct_en_small/instruction-data.json").read_text(encoding="utf-8"))
    chinese = json.loads((data / "instruct_zh_alpaca/zh-data-part-00_first7000.json").read_text(encoding="utf-8"))
    short = [row for row in chinese if len(row["output"]) <= 60 and len(row["instruction"] + row["input"]) <= 60]
    return [*english, *short[:1500], *(identity(data, held_out=False) * 5)]


def prepared(work, name, rows, form):
    """A data set of rows of ours."""
    import danlu

    path = write(work / "raw" / f"{name}.jsonl", rows)
    return danlu.prepare(str(path), out=work / "data" / name, form=form, holdout=0.08, dedups=[], overwrite=True).path


def lines_of(made):
    """What a stage says it changed, as value and error before and after."""
    return made.lineage.metrics.get("change", {})


def ask(folder, questions, tokens):
    """The likeliest answers of a model to questions, and whether each ended by itself."""
    import danlu
    from danlu.engine.converse import reply
    from danlu.engine.request import Sampling

    model, said = danlu.load(folder), []
    for question in questions:
        writing = reply(model, [{"role": "user", "content": question}], Sampling(temperature=0, max_tokens=tokens))
        said.append(("".join(writing).strip(), writing.reason != "length"))
    return said


def knows_itself(folder, data):
    """Held-out questions about who it is that are answered with its name."""
    rows = identity(data, held_out=True)
    asked = [row for row in rows if NAME in row["output"]]
    said = ask(folder, [row["instruction"] for row in asked], 48)
    return {"questions": len(asked), "named": sum(NAME in text for text, _ in said), "ended": sum(end for _, end in said)}


def instruct(args, work):
    """(a)"""
    import danlu

    data = prepared(work, "instructions", instructions(args.data), "alpaca")
    started = time.monotonic()
    made = danlu.finetune(args.base, data, out=work / "instruct", epochs=args.epochs, batch=32, overlong="drop", seed=args.seed,
                          judge={"questions": 96, "answer_tokens": 48}, overwrite=True)  # fmt: skip
    return {"minutes": (time.monotonic() - started) / 60, "samples": made.lineage.ledger["train"], "change": lines_of(made),
            "identity": knows_itself(made.path, args.data)}  # fmt: skip


def pairs(args, work):
    """Preference pairs of short English answers."""
    rows = json.loads((args.data / "preference/instruction-data-with-preference.json").read_text(encoding="utf-8"))
    return prepared(work, "pairs", rows, "preference")


def reward(args, work):
    """(b)"""
    import danlu

    started = time.monotonic()
    made = danlu.align(work / "instruct", pairs(args, work), out=work / "reward", objective="reward", epochs=2, batch=16,
                       overlong="drop", seed=args.seed, overwrite=True)  # fmt: skip
    return {"minutes": (time.monotonic() - started) / 60, "samples": made.lineage.ledger["train"],
            "figures": {name: value for name, value in made.lineage.metrics.items() if name != "change"}}  # fmt: skip


def dpo(args, work):
    """(c)"""
    import danlu
    from danlu.data.shards import read_documents
    from danlu.metrics.interval import ratio

    data = pairs(args, work)
    started = time.monotonic()
    made = danlu.align(work / "instruct", data, out=work / "dpo", objective={"name": "dpo", "beta": 0.1}, epochs=2, batch=16,
                       optimiser={"name": "adamw", "learning_rate": args.dpo_rate}, overlong="drop", seed=args.seed,
                       judge={"questions": 96, "answer_tokens": 48}, overwrite=True)  # fmt: skip
    minutes = (time.monotonic() - started) / 60
    judge = danlu.load(work / "reward")
    asked = [json.loads(one.sample["prompt"]) for one in read_documents(data, "validation")]
    questions = [one[-1]["content"] for one in asked]
    scores = {}
    for name in ("instruct", "dpo"):
        said = [text for text, _ in ask(work / name, questions, 64)]
        scores[name] = judge.score([[*prompt, {"role": "assistant", "content": text or "."}]
                                    for prompt, text in zip(asked, said, strict=True)])  # fmt: skip
    wins = [(after > before) + 0.5 * (after == before) for before, after in zip(scores["instruct"], scores["dpo"], strict=True)]
    won = ratio(wins, [1.0] * len(wins))
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    return {"minutes": minutes, "change": lines_of(made), "questions": len(questions), "mean_reward": means,
            "win_rate": {"value": won.value, "low": won.low, "high": won.high},
            "figures": {name: value for name, value in made.lineage.metrics.items() if name != "change"}}  # fmt: skip


def translate(args, work):
    """(f) English to Chinese."""
    from danlu.metrics.chrf import chrf

    rows, seen = [], set()
    with open(args.data / "zhen_tatoeba/cmn_train.tsv", encoding="utf-8", newline="") as file:
        for english, chinese, *_ in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if english not in seen:
                seen.add(english)
                rows.append({"prompt": f"Translate into Chinese: {english}", "completion": simplified(chinese)})
    test, train = rows[:200], rows[200:]
    told, minutes = taught(args, work, "translate", train, epochs=args.translate_epochs)
    said = [text for text, _ in ask(told, [row["prompt"] for row in test], 48)]
    true = [[row["completion"]] for row in test]
    copied = [row["prompt"].partition(": ")[2] for row in test]
    return {"minutes": minutes, "trained_on": len(train), "tested_on": len(test), "chrf": chrf(said, true),
            "chrf_of_copying": chrf(copied, true), "examples": said[:5], "true": true[:5]}  # fmt: skip


def simplified(text):
    """The text in simplified characters."""
    import opencc

    return opencc.OpenCC("t2s").convert(text)


def titles(args, work):
    """(f) Abstracts to titles, Chinese."""
    from danlu.metrics.rouge import rouge

    rows = []
    for line in (args.data / "sum_csl/dev.tsv").read_text(encoding="utf-8").splitlines():
        _, abstract, title = line.split("\t")[:3]
        rows.append({"prompt": f"题目：{abstract[:120]}", "completion": title})
    test, train = rows[:100], rows[100:]
    told, minutes = taught(args, work, "titles", train, epochs=args.title_epochs)
    said = [text for text, _ in ask(told, [row["prompt"] for row in test], 48)]
    true = [row["completion"] for row in test]
    lead = [re.split(r"[，。；,;.]", row["prompt"].removeprefix("题目："))[0] for row in test]

    def mean(texts):
        return sum(rouge(one, [other], "rougeL") for one, other in zip(texts, true, strict=True)) / len(true)

    return {"minutes": minutes, "trained_on": len(train), "tested_on": len(test), "rouge_l": mean(said),
            "rouge_l_of_first_clause": mean(lead), "examples": said[:5], "true": true[:5]}  # fmt: skip


def taught(args, work, name, rows, epochs):
    """The base after learning prompts with completions; the folder, and minutes."""
    import danlu

    data = prepared(work, name, rows, "completion")
    started = time.monotonic()
    made = danlu.finetune(args.base, data, out=work / name, epochs=epochs, batch=32, overlong="drop", seed=args.seed,
                          judge={"questions": 0, "text_tokens": 0}, overwrite=True)  # fmt: skip
    return made.path, (time.monotonic() - started) / 60


def main():
    """Run the parts that were asked for; figures of other parts stay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--work", type=Path, default=Path("aligned_life"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--translate-epochs", type=float, default=6.0)
    parser.add_argument("--title-epochs", type=float, default=20.0)
    parser.add_argument("--dpo-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from benchmarks import harness

    import danlu
    from danlu.core.lineage import read

    args.work.mkdir(parents=True, exist_ok=True)
    path = harness.RESULTS / "aligned_life.json"
    found = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.is_file() else {}
    model = danlu.load(args.base).model
    record = read(args.base)
    found["base"] = {"parameters": sum(part.numel() for part in model.parameters()), "context": model.config.context,
                     "heldout_bits_per_byte": record.metrics.get("bits_per_byte")}  # fmt: skip
    for name in args.only:
        found[name] = globals()[name](args, args.work)
        print(name, json.dumps(found[name], ensure_ascii=False, indent=1)[:1800])
        harness.save(
            path.stem, figures=found, claim="What each stage of an aligned model's life gains, on a base trained in minutes.",
            target="held-out loss falls and the identity is known; the reward model is above the length baseline; DPO raises "
                   "margin and win rate at a stated cost in bits per byte; chrF and ROUGE are above copying and the lead",
            settings={name: value for name, value in vars(args).items() if name not in ("only", "data", "work")}
            | {"threads": os.environ["OMP_NUM_THREADS"]},
        )  # fmt: skip
    shutil.rmtree(args.work / "raw", ignore_errors=True)


if __name__ == "__main__":
    main()
