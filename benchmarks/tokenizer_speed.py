"""Tokenizer speed: training a 16k byte-level BPE and encoding with it, side by side with the libraries people use.

Every side runs in its own process, which times the work alone and reports it; peak memory is that of the whole process.
Danlu and `tokenizers` encode with the same tokenizer.json, and the ids are compared over the whole text. tiktoken encodes with
the same merges; rustbpe and sentencepiece with merges of their own.
"""

import hashlib
import json
import random
import statistics
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import harness

HERE = Path(__file__).resolve()
SHARED = HERE.parents[2] / "shared" / "data"
SHARED_TEXTS = (
    "en_war_and_peace/war-and-peace.txt",
    "en_tinyshakespeare/input.txt",
    "zh_web_sample/CLUECorpusSmall_sampled.txt",
    "zh_cls_chnsenticorp/train.tsv",
    "zhen_python_docs/python_docs_en_zh.jsonl",
    "math_gsm8k/train.jsonl",
)
VOCAB = 16384
TRAINERS = ("danlu", "tokenizers", "rustbpe", "sentencepiece")
ENCODERS = ("danlu", "tokenizers", "tiktoken", "rustbpe", "sentencepiece")


def texts(megabytes: int) -> list[str]:
    """Documents of about 4 kB: Python's own sources and, where they are, the shared texts; repeated in shuffled order."""
    paths = [SHARED / name for name in SHARED_TEXTS if (SHARED / name).is_file()]
    paths += sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    whole = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    base = [text[at : at + 4_000] for text in whole for at in range(0, len(text), 4_000)]
    shuffle, found, size = random.Random(0), [], 0
    while size < megabytes * 1_000_000:
        shuffle.shuffle(base)
        for text in base:
            found.append(text)
            size += len(text.encode())
            if size >= megabytes * 1_000_000:
                break
    return found


def train(side: str, documents: list[str], folder: Path) -> float:
    """Seconds to learn a vocabulary; where that vocabulary is used later it is left in `folder`."""
    from danlu.tokenizer.patterns import PATTERNS

    pattern = PATTERNS["danlu"]
    if side == "danlu":
        from danlu.tokenizer.trainers.bpe import ByteLevelBPE

        started = time.perf_counter()
        learned = ByteLevelBPE(ByteLevelBPE.Config()).train(iter(documents), vocab_size=VOCAB)
        seconds = time.perf_counter() - started
        learned.save(folder)
        return seconds
    if side == "tokenizers":
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

        theirs = Tokenizer(models.BPE())
        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
        theirs.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=VOCAB, initial_alphabet=alphabet, show_progress=False)
        started = time.perf_counter()
        theirs.train_from_iterator(iter(documents), trainer)
        return time.perf_counter() - started
    if side == "rustbpe":
        import rustbpe

        learner = rustbpe.Tokenizer()
        started = time.perf_counter()
        learner.train_from_iterator(iter(documents), VOCAB, pattern=pattern)
        return time.perf_counter() - started
    import sentencepiece

    started = time.perf_counter()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(documents), model_prefix=str(folder / "spm"), vocab_size=VOCAB, model_type="bpe",
        byte_fallback=True, character_coverage=0.9995, num_threads=2, max_sentence_length=1 << 20, minloglevel=2,
    )  # fmt: skip
    return time.perf_counter() - started


def encode(side: str, documents: list[str], folder: Path) -> dict[str, object]:
    """Seconds for the documents one after the other and as a batch, and a hash of the ids."""
    if side == "danlu":
        from danlu.tokenizer.tokenizer import Tokenizer

        ours = Tokenizer.open(folder)
        return _time(documents, ours.encode_array, ours.encode_batch)
    if side == "tokenizers":
        import tokenizers

        theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        return _time(
            documents, lambda text: theirs.encode(text).ids, lambda all_: [one.ids for one in theirs.encode_batch_fast(all_)]
        )
    if side == "tiktoken":
        import tiktoken

        from danlu.tokenizer.patterns import PATTERNS
        from danlu.tokenizer.tokenizer import Tokenizer

        source = Tokenizer.open(folder)
        ranks = {source.token_bytes(number): number for number in range(3, source.vocab_size)}
        coder = tiktoken.Encoding("x", pat_str=PATTERNS["danlu"], mergeable_ranks=ranks, special_tokens=source.special_tokens)
        return _time(documents, coder.encode_ordinary, lambda all_: coder.encode_ordinary_batch(all_, num_threads=2))
    if side == "rustbpe":
        import rustbpe

        from danlu.tokenizer.patterns import PATTERNS

        learner = rustbpe.Tokenizer()
        learner.train_from_iterator(iter(documents[: len(documents) // 5]), VOCAB, pattern=PATTERNS["danlu"])
        return _time(documents, learner.encode, learner.batch_encode)
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    return _time(documents, pieces.encode, lambda all_: pieces.encode(all_, num_threads=2))


def _time(documents, one, batch) -> dict[str, object]:
    for text in documents[:20]:
        one(text)
    started = time.perf_counter()
    for text in documents:
        one(text)
    single = time.perf_counter() - started
    started = time.perf_counter()
    found = batch(documents)
    together = time.perf_counter() - started
    digest = hashlib.sha256()
    for ids in found:
        digest.update(json.dumps(list(map(int, ids))).encode())
    return {"single_s": single, "batch_s": together, "tokens": sum(map(len, found)), "ids": digest.hexdigest()}


def worker(task: str, side: str, megabytes: int, folder: Path) -> None:
    """What one process does; its last line of output is the result."""
    documents = texts(megabytes)
    size = sum(len(text.encode()) for text in documents)
    found = {"seconds": train(side, documents, folder)} if task == "train" else encode(side, documents, folder)
    print(json.dumps({"bytes": size, **found}))


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--megabytes", type=int, default=50, help="text, in MB")
    parser.add_argument("--worker", nargs=3, metavar=("TASK", "SIDE", "FOLDER"), help="used by the benchmark itself")
    given = parser.parse_args()
    if given.worker:
        task, side, folder = given.worker
        return worker(task, side, given.megabytes, Path(folder))
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        runs = {task: measure(task, sides, given, Path(name)) for task, sides in (("train", TRAINERS), ("encode", ENCODERS))}
    rates = {}
    for task, key in (("train", "seconds"), ("encode", "single_s"), ("encode", "batch_s")):
        label = {"seconds": "train", "single_s": "encode one text at a time", "batch_s": "encode a batch"}[key]
        rates[label] = {side: [row["bytes"] / 1e6 / row[key] for row in rows] for side, rows in runs[task].items()}
        figures[f"{label}, MB/s"] = {side: harness.spread(values) for side, values in rates[label].items()}
        others = [side for side in rates[label] if side != "danlu"]
        figures[f"{label}, danlu against"] = {side: harness.ratio(rates[label]["danlu"], rates[label][side]) for side in others}
    for task in runs:
        figures[f"{task}, peak MB of the process"] = {
            side: statistics.median(row["peak"] for row in rows) / 1e6 for side, rows in runs[task].items()
        }
    ids = {side: {row["ids"] for row in runs["encode"][side]} for side in ("danlu", "tokenizers", "tiktoken")}
    if not ids["danlu"] == ids["tokenizers"] == ids["tiktoken"] or len(ids["danlu"]) != 1:
        sys.exit("the ids differ: this is no comparison")
    first = runs["encode"]["danlu"][0]
    figures["bytes per token"] = first["bytes"] / first["tokens"]
    from danlu.core.machine import version

    names = ("tokenizers", "tiktoken", "rustbpe", "sentencepiece")
    path = harness.save(
        "tokenizer_speed", claim="16k byte-level BPE: training and encoding speed, same ids as tokenizers",
        target="train >= 2x and encode >= 4.5x tokenizers, one text at a time and as a batch",
        settings={"megabytes": given.megabytes, "vocab_size": VOCAB, "rounds": given.repeats, "shared_texts": SHARED.is_dir(),
                  "documents": "about 4 kB each, each repeated as often as the size needs"},
        figures=figures, versions={name: version(name) for name in names},
        notes="danlu, tokenizers and tiktoken: identical ids over the whole text. rustbpe trains on a fifth, encodes all",
    )  # fmt: skip
    print(json.dumps({key: value for key, value in figures.items() if "against" in key}, indent=1), path)


def measure(task: str, sides: tuple[str, ...], given, folder: Path) -> dict[str, list[dict]]:
    """The sides in turn, `repeats` times; every run a process of its own."""
    found: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(given.repeats):
        for side in sides:
            run = harness.run(
                [sys.executable, str(HERE), "--megabytes", str(given.megabytes), "--worker", task, side, str(folder)]
            )
            found[side].append({**run.json(), "peak": run.peak_bytes})
    return found


if __name__ == "__main__":
    main()
