"""What a Transformer buys: held-out bits per byte of n-grams, an LSTM and the default Transformer at equal time; word vectors.

Each corpus is cut into documents of 4,000 characters, of which a part is held out; every model reads the rest and is scored on
the whole held-out text by `danlu evaluate`. N-grams take the time that counting takes; the others are given `--seconds`. Word
vectors are scored on people's ratings, over the pairs whose words such a small corpus has. A cell is kept as soon as it is
done, so an interrupted run goes on. Run the timed cells on a quiet machine: they share its speed.
Usage: ancestors.py --text en=FILE zh=FILE [--ratings en=FILE,FILE zh=FILE] [--analogies en=FILE] [--cells ngram-5 lstm ...]
"""

import argparse
import json
import sys
from pathlib import Path

DOCUMENT = 4000
"""Characters of a document."""
NGRAMS = {f"ngram-{order}": ["--model.name", "ngram", "--model.order", str(order)] for order in (2, 3, 4, 5, 6)}
SMALL = {f"ngram-{order}-v512": ["--model.name", "ngram", "--model.order", str(order), "--vocab_size", "512"] for order in (5, 8)}
TRAINED = {"lstm": ["--model.name", "lstm"], "transformer": []}
VECTORS = {name: ["--method.name", name] for name in ("skipgram", "glove")}
CELLS = {**NGRAMS, **SMALL, **TRAINED, **VECTORS}


def main(options):
    from benchmarks.harness import RESULTS, save

    path = RESULTS / "ancestors.json"
    texts, ratings, analogies = (named(part) for part in (options.text, options.ratings, options.analogies))
    for corpus, (text, *_) in texts.items():
        dataset = prepare(text, options.work, corpus)
        for name in options.cells or CELLS:
            cells = json.loads(path.read_text())["figures"]["cells"] if path.is_file() else {}
            timed = f", {options.seconds} s" if name in TRAINED else ""
            key = f"{corpus}, {name}{timed}, seed {options.seed}"
            if key in cells:
                continue
            if name in VECTORS:
                cells[key] = vectors(dataset, name, options, ratings.get(corpus, []), analogies.get(corpus, []))
            else:
                cells[key] = model(dataset, name, options)
            print(key, cells[key], file=sys.stderr, flush=True)
            save("ancestors", claim=__doc__.splitlines()[0], target="reported, not judged",
                 settings={"cells": CELLS, "document_characters": DOCUMENT,
                           "texts": {name: one[0].name for name, one in texts.items()}},
                 figures={"cells": dict(sorted(cells.items()))})  # fmt: skip


def named(words):
    """NAME=FILE,FILE words as a dictionary."""
    pairs = (word.split("=", 1) for word in words)
    return {name: [Path(place) for place in places.split(",")] for name, places in pairs}


def prepare(text, work, corpus):
    """A dataset of the text's stretches, and its held-out part as one text."""
    from benchmarks.harness import run

    from danlu.data.shards import read_texts

    work.mkdir(parents=True, exist_ok=True)
    dataset, source = work / f"{corpus}.dataset", work / f"{corpus}.jsonl"
    if not dataset.exists():
        body = text.read_text(encoding="utf-8")
        lines = (
            json.dumps({"text": body[start : start + DOCUMENT]}, ensure_ascii=False) for start in range(0, len(body), DOCUMENT)
        )
        source.write_text("\n".join(lines), encoding="utf-8")
        run([*danlu(), "prepare", str(source), "-o", str(dataset), "--holdout", "0.05"])
    (work / f"{corpus}.heldout.txt").write_text("\n\n".join(read_texts(dataset, "validation")), encoding="utf-8")
    return dataset


def model(dataset, name, options):
    """Make one model, score it on all held-out text."""
    from benchmarks.harness import run

    out, report = options.work / "model", options.work / "report"
    budget = ["--budget", f"{options.seconds}s"] if name in TRAINED else []
    made = run(
        [*danlu(), "pretrain", str(dataset), "-o", str(out), "--seed", str(options.seed), "--overwrite", *budget, *CELLS[name]]
    )
    heldout = dataset.with_suffix(".heldout.txt")
    run([*danlu(), "evaluate", str(out), "--text", str(heldout), "-o", str(report), "--overwrite"])
    scored = json.loads((report / "report.json").read_text())["models"][0]
    lineage = json.loads((out / "lineage.json").read_text())
    config = json.loads((out / "config.json").read_text())
    return {
        "bits_per_byte": round(scored["bits_per_byte"], 4), "standard_error": round(scored["standard_error"], 4),
        "bytes": scored["bytes"], "seconds_learning": round(lineage["metrics"]["seconds"], 1), "seconds": round(made.seconds, 1),
        "peak_bytes": made.peak_bytes, "parameters": lineage["metrics"]["parameters"], "vocab_size": config["vocab_size"],
        "weights_bytes": (out / "model.safetensors").stat().st_size, "tokens": lineage["metrics"]["tokens"],
    }  # fmt: skip


def vectors(dataset, name, options, ratings, analogies):
    """Learn vectors, score them on every file."""
    from benchmarks.harness import run

    out = options.work / "vectors"
    files = [
        *(["--similarity", *map(str, ratings)] if ratings else []),
        *(["--analogy", *map(str, analogies)] if analogies else []),
    ]
    made = run(
        [*danlu(), "vectors", str(dataset), "-o", str(out), "--seed", str(options.seed), "--overwrite", *files, *CELLS[name]]
    )
    metrics = json.loads((out / "lineage.json").read_text())["metrics"]
    whole = [score for score in metrics["scores"] if ": " not in score["file"]]
    kept = ("file", "value", "low", "high", "known", "total")
    scores = [{key: round(score[key], 3) if isinstance(score[key], float) else score[key] for key in kept if key in score}
              for score in whole]  # fmt: skip
    return {"words": metrics["words"], "han": metrics["han"], "seconds": round(made.seconds, 1), "scores": scores}


def danlu():
    """The command line of this checkout."""
    return [sys.executable, "-m", "danlu"]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", required=True, help="corpora: NAME=FILE")
    parser.add_argument("--ratings", nargs="*", default=[], help="word pairs with ratings: NAME=FILE,FILE")
    parser.add_argument("--analogies", nargs="*", default=[], help="questions: NAME=FILE")
    parser.add_argument("--cells", nargs="*", choices=[*CELLS], help="left out: all")
    parser.add_argument("--seconds", type=int, default=120, help="training time of the LSTM and the Transformer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("ancestors.work"), help="folder for data and models")
    main(parser.parse_args())
