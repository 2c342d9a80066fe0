"""Small models with heads, pre-trained and fine-tuned here, beside linear models on counts (scikit-learn), on the same samples.

Sentiment in Chinese (ChnSentiCorp) and English (SST-2) against TF-IDF with logistic regression; named entities (MSRA, its
development part) against a linear model of each character's neighbours; retrieval by intent (banking77) against cosines of
TF-IDF, which know no labels, and of a regression's probabilities, which do. Each task: masked pre-training on the task's own
training text, then `danlu finetune`; processor seconds of all of it are told.
Usage: classify.py --data FOLDER [--tasks sst2 chnsenticorp msra banking77] [--scale 1.0] [--work FOLDER] [--seed 0]
FOLDER holds en_cls_sst2/, zh_cls_chnsenticorp/, zh_ner_msra/, en_cls_banking77/ as their authors publish them.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MODEL = {"name": "modernbert", "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 512}  # fmt: skip
TASKS = {
    "sst2": {
        "train": "en_cls_sst2/train.tsv", "test": "en_cls_sst2/dev.tsv", "objective": {"name": "classify"}, "language": "en",
        "form": {"name": "labels", "text": "1", "label": "2"}, "reader": {"name": "tsv", "header": False},
        "pretrain": 150, "epochs": 5, "figure": "accuracy",
    },
    "chnsenticorp": {
        "train": "zh_cls_chnsenticorp/train.tsv", "test": "zh_cls_chnsenticorp/dev.tsv", "objective": {"name": "classify"},
        "form": {"name": "labels", "text": "text_a", "label": "label"}, "reader": {"name": "tsv"}, "language": "zh",
        "pretrain": 150, "epochs": 3, "figure": "accuracy",
    },
    "msra": {
        "train": "zh_ner_msra/dev.tsv", "test": None, "objective": {"name": "tag"}, "language": "zh",
        "form": {"name": "tags", "words": "text_a", "tags": "label"}, "reader": {"name": "tsv"},
        "pretrain": 150, "epochs": 12, "figure": "entity_f1",
    },
    "banking77": {
        "train": "en_cls_banking77/train.csv", "test": None, "objective": {"name": "contrast", "dims": [24, 48]},
        "language": "en", "form": {"name": "labels", "text": "text", "label": "category"}, "reader": {"name": "csv"},
        "pretrain": 150, "epochs": 5, "figure": "recall_at_1",
    },
}  # fmt: skip


def ours(task, data, work, scale, seed):
    """Prepare, pre-train, fine-tune, judge: (figures, processor seconds, model folder, test dataset)."""
    import danlu
    from danlu.core import log
    from danlu.data.shards import read_documents
    from danlu.engine.model import load
    from danlu.evaluate import labelled

    started = time.process_time()
    shared = {"form": task["form"], "reader": task["reader"], "engine": "sequential", "seed": seed}
    with log.silent():
        samples = danlu.prepare(str(data / task["train"]), out=work / "samples", holdout=0.1, **shared).path
        test = samples
        if task["test"]:
            test = danlu.prepare(str(data / task["test"]), out=work / "test", holdout=0, dedups=[], **shared).path
        steps = max(int(task["pretrain"] * scale), 2)
        body = danlu.pretrain(samples, out=work / "body", objective="masked", model=MODEL, steps=steps, vocab_size=3000,
                              batch_rows=16, row_tokens=128, seed=seed).path  # fmt: skip
        batch = 64 if task["figure"] == "recall_at_1" else 32
        model = danlu.finetune(body, samples, out=work / "model", objective=task["objective"], epochs=task["epochs"] * scale,
                               batch=batch, overlong="truncate", seed=seed).path  # fmt: skip
        seconds = time.process_time() - started
        documents = list(read_documents(test, "validation")) or list(read_documents(test))
        judged = labelled.score(load(model, "cpu"), documents, "danlu", "truncate")
    return judged, seconds, samples, documents


def counted(task, samples, documents):
    """The linear side on the same samples: (figures, processor seconds)."""
    from danlu.data.shards import read_documents

    train = list(read_documents(samples))
    started = time.process_time()
    side = {"entity_f1": neighbours, "recall_at_1": cosines}.get(task["figure"], regression)
    return side(task["language"], train, documents), time.process_time() - started


def grams(language):
    """TF-IDF of words and their pairs; of one to three characters in Chinese."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if language == "zh":
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2, sublinear_tf=True)
    return TfidfVectorizer(ngram_range=(1, 2), min_df=1, sublinear_tf=True)


def regression(language, train, documents):
    """TF-IDF and logistic regression."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from danlu.metrics.interval import ratio

    table = grams(language)
    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(table.fit_transform([one.text for one in train]), [one.sample["label"] for one in train])
    said = model.predict(table.transform([one.text for one in documents]))
    right = [float(one == two.sample["label"]) for one, two in zip(said, documents, strict=True)]
    return {"accuracy": ratio(right, np.ones(len(right)))}


def neighbours(language, train, documents):
    """Each character's tag from the characters around it, by logistic regression with stochastic gradients."""
    import numpy as np
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import SGDClassifier

    from danlu.metrics.entity_f1 import entity_counts
    from danlu.metrics.interval import ratio

    def around(words, at):
        padded = ["<", "<", *words, ">", ">"][at : at + 5]
        return {**{f"{place}{word}": 1 for place, word in enumerate(padded)},
                **{f"p{place}{''.join(padded[place : place + 2])}": 1 for place in range(4)}}  # fmt: skip

    def table(samples):
        return [around(one.sample["words"], at) for one in samples for at in range(len(one.sample["words"]))]

    vectors, model = DictVectorizer(), SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=15, tol=None, random_state=0)
    model.fit(narrow(vectors.fit_transform(table(train))), [tag for one in train for tag in one.sample["tags"]])
    said = iter(model.predict(narrow(vectors.transform(table(documents)))))
    found = np.array([entity_counts([next(said) for _ in one.sample["tags"]], one.sample["tags"]) for one in documents], float)
    return {"entity_f1": ratio(2 * found[:, 0], found[:, 1] + found[:, 2])}


def narrow(table):
    """The same sparse table with 32-bit places, which alone the stochastic solver takes."""
    table.indices, table.indptr = table.indices.astype("int32"), table.indptr.astype("int32")
    return table


def cosines(language, train, documents):
    """Cosines of TF-IDF vectors, which know no labels; and of the classes' probabilities that a regression on them gives."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from danlu.evaluate.labelled import ranking

    table = grams(language)
    model = LogisticRegression(C=10.0, max_iter=1000)
    model.fit(table.fit_transform([one.text for one in train]), [one.sample["label"] for one in train])
    vectors = table.transform([one.text for one in documents])
    shares = model.predict_proba(vectors)
    shares /= np.linalg.norm(shares, axis=1, keepdims=True)
    names = np.array([one.sample["label"] for one in documents])
    found = ranking((vectors @ vectors.T).toarray(), names[:, None] == names, same=True)
    learned = ranking(shares @ shares.T, names[:, None] == names, same=True)
    return {**found, **{f"{name}_by_labels": value for name, value in learned.items()}}


def plain(values):
    """Estimates as they go into a result file."""
    return {
        name: {"value": round(one.value, 4), "low": round(one.low, 4), "high": round(one.high, 4)} for name, one in values.items()
    }


def main():
    """Run the tasks and write results/classify.json after each, so that a stopped run leaves what it found."""
    from benchmarks.harness import RESULTS, arguments, save

    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor on steps and epochs")
    parser.add_argument("--work", type=Path, default=None, help="keep models and datasets here")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    work = chosen.work or Path(tempfile.mkdtemp())
    place = RESULTS / "classify.json"
    figures = json.loads(place.read_text())["figures"] if place.is_file() else {}
    for name in chosen.tasks:
        folder = work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        judged, seconds, samples, documents = ours(TASKS[name], chosen.data, folder, chosen.scale, chosen.seed)
        baseline, counted_s = counted(TASKS[name], samples, documents)
        figures[name] = {
            "samples": {"judged": len(documents)}, "figure": TASKS[name]["figure"],
            "danlu": {**plain(judged.values), "processor_s": round(seconds, 1)},
            "scikit-learn": {**plain(baseline), "processor_s": round(counted_s, 1)},
            "pretrain_steps": max(int(TASKS[name]["pretrain"] * chosen.scale), 2), "epochs": TASKS[name]["epochs"] * chosen.scale,
        }  # fmt: skip
        print(name, json.dumps(figures[name]), flush=True)
        save_all(save, figures, chosen)
    if chosen.work is None:
        shutil.rmtree(work)


def save_all(save, figures, chosen):
    """The result file as it stands."""
    import sklearn
    import torch

    save(
        "classify",
        claim="small models with heads, trained here from nothing within minutes, beside linear models on counts",
        target="accuracy, entity F1 and recall with 95 % intervals; no side is left out",
        settings={"model": MODEL, "scale": chosen.scale, "seed": chosen.seed, "threads": os.environ["OMP_NUM_THREADS"]},
        figures=figures, versions={"torch": torch.__version__, "scikit-learn": sklearn.__version__},
        notes="Pre-training reads only the task's own training text. Linear models need no pre-training and are hard to beat at "
        "this size. Processor seconds are of one thread; the machine was shared.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
