"""Where to cut text before merging: bytes per token of candidate patterns at equal vocabulary size, by kind of text.

All candidates learn from the same mixture (English, Chinese, code, Chinese technical text, sums) and are measured on documents
kept apart. Beside them stand vocabularies made elsewhere: GPT-4's cl100k (six times larger) and a sentencepiece BPE learned
from the Chinese part alone. Without the shared texts only code is measured.
"""

import csv
import json
import random
import sysconfig
import tempfile
from pathlib import Path

import harness

from danlu.tokenizer import patterns
from danlu.tokenizer.trainers.bpe import ByteLevelBPE

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PART_BYTES = 2_500_000
CANDIDATES = {
    "gpt2": patterns.GPT2,
    "gpt4": patterns.GPT4,
    "gpt4, single digits": patterns.GPT4.replace("{1,3}", ""),
    "danlu": patterns.danlu(),
    **{f"danlu, Chinese runs to {most}": patterns.danlu(han_run=most) for most in (1, 2, 4, 8, 16)},
    **{f"danlu, digits to {most}": patterns.danlu(digits=most) for most in (1, 3)},
    "danlu, line break apart from signs": patterns.danlu().replace(r"(?:[\r\n]{1,16}[ \t]{0,32})?", r"[\r\n]{0,16}"),
    "danlu, blank before digits": patterns.danlu().replace("|[0-9]", "| ?[0-9]"),
}


def documents() -> dict[str, list[str]]:
    """Documents by kind, in a fixed shuffled order."""
    found = {"code": [path.read_text("utf-8", "replace") for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))]}
    if SHARED.is_dir():
        novel = (SHARED / "en_war_and_peace/war-and-peace.txt").read_text("utf-8")
        web = [json.loads(line)["text"] for line in (SHARED / "en_web_sample/c4_demo.jsonl").read_text("utf-8").splitlines()]
        found["english"] = [novel[at : at + 3_000] for at in range(0, 2_000_000, 3_000)] + web
        with open(SHARED / "zh_cls_chnsenticorp/train.tsv", encoding="utf-8") as file:
            reviews = [row[1] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:4_000]
        found["chinese"] = (SHARED / "zh_web_sample/CLUECorpusSmall_sampled.txt").read_text("utf-8").splitlines() + reviews
        rows = [
            json.loads(line)["zh"]
            for line in (SHARED / "zhen_python_docs/python_docs_en_zh.jsonl").read_text("utf-8").splitlines()
        ]
        found["technical chinese"] = ["\n".join(rows[at : at + 10]) for at in range(0, len(rows), 10)]
        sums = [json.loads(line) for line in (SHARED / "math_gsm8k/train.jsonl").read_text("utf-8").splitlines()[:1_500]]
        found["sums"] = [f"{row['question']}\n{row['answer']}" for row in sums]
    for kind in found:
        random.Random(0).shuffle(found[kind])
    return found


def measure(kept: dict[str, list[str]], count) -> dict[str, float]:
    """Bytes per token by kind; `count` gives the tokens of many texts."""
    return {kind: round(sum(len(text.encode()) for text in texts) / count(texts), 3) for kind, texts in kept.items()}


def main() -> None:
    parser = harness.arguments(__doc__)
    parser.add_argument("--vocab_size", type=int, default=16384)
    parser.add_argument("--only", nargs="*", help="names of candidates; all when left out")
    given = parser.parse_args()
    learn, kept = [], {}
    for kind, texts in documents().items():
        part = len(texts) // 8
        kept[kind], size = texts[:part], 0
        for text in texts[part:]:
            if size < PART_BYTES:
                learn.append((kind, text))
                size += len(text.encode())
    random.Random(1).shuffle(learn)
    figures = {}
    for name in given.only or CANDIDATES:
        trainer = ByteLevelBPE(ByteLevelBPE.Config(pattern=CANDIDATES[name]))
        learned = trainer.train((text for _, text in learn), vocab_size=given.vocab_size)
        figures[name] = measure(kept, lambda texts, learned=learned: sum(map(len, learned.encode_batch(texts))))
        print(f"{name:40}", figures[name], flush=True)
    others = {"cl100k (100k tokens)": cl100k()}
    if "chinese" in kept:
        others["sentencepiece, Chinese only"] = chinese_sentencepiece(
            [text for kind, text in learn if "chinese" in kind], given.vocab_size
        )
    for name, count in others.items():
        figures[name] = measure(kept, count)
        print(f"{name:40}", figures[name], flush=True)
    harness.save("tokenizer_patterns", claim="our pattern needs fewer tokens than those of GPT-2 and GPT-4 at equal size",
                 target="no kind of text worse than 1 % but sums, code clearly better", figures=figures,
                 settings={"vocab_size": given.vocab_size, "part_bytes": PART_BYTES})  # fmt: skip


def cl100k():
    """Token count by the table that daft carries inside."""
    import daft

    def count(texts: list[str]) -> int:
        rows = daft.from_pydict({"text": texts}).select(daft.functions.tokenize_encode(daft.col("text"), "cl100k_base"))
        return sum(map(len, next(iter(rows.to_pydict().values()))))

    return count


def chinese_sentencepiece(texts: list[str], size: int):
    """Token count by a sentencepiece BPE of the Chinese texts; line breaks, which it drops, are counted as one token each."""
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        lines = (line for text in texts for line in text.splitlines() if line)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_prefix=f"{folder}/m", vocab_size=size, model_type="bpe", byte_fallback=True,
            character_coverage=0.9995, minloglevel=2,
        )  # fmt: skip
        pieces = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/m.model")
    return lambda texts: sum(map(len, pieces.encode(texts))) + sum(text.count("\n") for text in texts)


if __name__ == "__main__":
    main()
