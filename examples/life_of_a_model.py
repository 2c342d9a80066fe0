"""The life of a model in Python, from text of its own to an answer and back to the raw file.

python examples/life_of_a_model.py [FOLDER] [BUDGET]          writes into FOLDER (life/), trains for BUDGET (1m)
"""

import random
import sys
from pathlib import Path

import danlu
from danlu.core import log
from danlu.core.lineage import trace


def write_text(folder: Path, documents: int = 600) -> Path:
    """Small sums in words, a language with a grammar and a truth: `seven plus five is twelve.`"""
    ones = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    )
    words, dice = ones.split(), random.Random(0)
    opening = [
        "Today we learn that",
        "The teacher said that",
        "It is known that",
        "My sister found out that",
        "In the book it says that",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        lines = []
        for _ in range(4):
            a, b = dice.randrange(10), dice.randrange(10)
            lines.append(f"{dice.choice(opening)} {words[a]} plus {words[b]} is {words[a + b]}.")
        (folder / f"{number:04}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def main(home: Path, budget: str) -> None:
    """Every stage once, each leaving an artefact that the next one reads."""
    text = write_text(home / "text")

    data = danlu.prepare(sources=[str(text)], out=home / "data", filters=["length"], dedups=["exact"], holdout=0.05)
    print("ledger:", data.lineage.ledger["total"])

    tokenizer = danlu.tokenizer(dataset=data.path, out=home / "tokenizer", vocab_size=320)
    print("tokenizer:", tokenizer.lineage.metrics)

    trained = danlu.pretrain(dataset=data.path, tokenizer=tokenizer.path, out=home / "model", budget=budget, row_tokens=64)
    print("model:", {name: value for name, value in trained.lineage.metrics.items() if isinstance(value, int | float)})

    model = danlu.load(trained.path)
    for prompt in ("It is known that three plus four is", "The teacher said that nine plus two is"):
        print(prompt + model.generate(prompt, max_tokens=6, temperature=0, stop=["\n"]))

    print("where it came from:")
    for depth, source, record in trace(trained.path):
        role = source.role if source else "this"
        print("  " * depth, role, record.id if record else source.path if source else "")
        if record is None:
            break  # six hundred raw files follow


if __name__ == "__main__":
    with log.listening(log.Console()):
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "life"), sys.argv[2] if len(sys.argv) > 2 else "1m")
