"""Rows for tests of objectives: short documents, cut by the row's ends as the packer cuts them."""

from pathlib import Path

from danlu.data.pack import Packer, Row
from danlu.data.shards import Document
from danlu.data.tokens import TokenSet, write_tokens
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from tests.tiny import SPECIAL

TEXTS = [
    "The cat sat on the mat and looked at the moon, which was round.",
    "一只猫坐在垫子上，看着圆圆的月亮。月亮不看它。",
    "x",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))  # 三\n",
    "ab",
    "Short rows, long documents: both kinds of piece are met, first parts and last parts and those between. " * 2,
]


def learned(*more: str) -> Tokenizer:
    """A byte-level BPE with merges of the texts, and the tokens an objective asks for."""
    special = (*SPECIAL, *more)
    return TRAINERS.build(TRAINERS["bpe"].Config()).train(iter(TEXTS * 3), special, vocab_size=256 + len(special) + 60)


def token_set(folder: Path, tokenizer: Tokenizer) -> TokenSet:
    """The texts as tokens."""
    documents = [Document(id=str(index), source="s", path="p", line=index + 1, text=text) for index, text in enumerate(TEXTS)]
    write_tokens(
        folder, iter(documents), tokenizer.encode_batch, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id,
        vocab_size=tokenizer.vocab_size,
    )  # fmt: skip
    return TokenSet.open(folder)


def packed(folder: Path, tokenizer: Tokenizer, row_tokens: int, count: int) -> list[Row]:
    """The first rows of a run."""
    packer = Packer(token_set(folder, tokenizer), row_tokens, seed=1)
    return [packer.served(number) for number in range(count)]


def filled(row: Row, keep: int) -> Row:
    """The row with filling behind `keep` places, as held-out rows have it."""
    ids, targets, documents = row.ids.copy(), row.targets.copy(), row.documents.copy()
    ids[keep:], targets[keep:], documents[keep:] = 0, -100, documents[keep - 1] + 1
    return Row(ids, targets, documents, row.origin)
