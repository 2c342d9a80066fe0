"""Learn a vocabulary from a dataset: text to tokens and back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from danlu.core import log
from danlu.core.artifact import Artifact, check_out, open_artifact, publish
from danlu.core.settings import Named, Settings, choice
from danlu.core.units import Bytes
from danlu.stages import STAGES
from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS
from danlu.tokenizer.trainers import TRAINERS

_ENOUGH_BYTES = 20_000
"""Less held-out text than this, or than a five hundredth of the rest, says nothing: the report then measures on the rest."""


class TrainTokenizer(Settings):
    """Which text, which method, how many tokens."""

    positional = ("dataset",)

    dataset: Path
    """Folder that `danlu prepare` wrote."""
    out: Path
    """Folder to write: tokenizer.json and its companions, a report, a card. Loads in transformers."""
    trainer: Annotated[Named, choice(TRAINERS)] = {"name": "bpe"}  # type: ignore[assignment]  # noqa: RUF012
    """How the vocabulary is learned."""
    vocab_size: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Tokens in all, bytes and special tokens included. auto: the power of two next to twice the square root of the text's
    bytes, between 512 and 131072, and less where the text supports less. A number that the text cannot fill is an error."""
    special_tokens: list[str] = Field(list(DEFAULT_SPECIAL_TOKENS))
    """Tokens that ordinary text never becomes, ids from 0 up. The first begins, ends and pads documents."""
    max_bytes: Bytes = Bytes(2_000_000_000)
    """Most text to learn from; of more, whole documents are taken evenly. The ledger says what was left out."""
    compare: bool = True
    """Whether the report compares with the patterns of GPT-2 and GPT-4 at equal size (a few seconds; bpe only)."""
    overwrite: bool = False
    """Whether to replace a finished output."""


@STAGES.register
def tokenizer(config: TrainTokenizer) -> Artifact:
    """Train a tokenizer on a dataset, measure it, write it with its report."""
    from danlu.data.shards import count, read_documents
    from danlu.tokenizer import report
    from danlu.tokenizer.sample import EvenSample, auto_vocab_size

    check_out(config.out, config.overwrite)
    source = open_artifact(config.dataset, "dataset")
    total = count(config.dataset)
    sample = EvenSample(total["bytes"], config.max_bytes.count)
    trainer = TRAINERS.build(config.trainer)
    size: dict[str, Any] = {"vocab_size": config.vocab_size}
    if config.vocab_size == "auto":
        size = (
            {"vocab_size": auto_vocab_size(min(total["bytes"], config.max_bytes.count)), "shrink": True} if trainer.sized else {}
        )
    with log.progress("learn tokens", total=min(total["bytes"], config.max_bytes.count), unit="bytes") as bar:
        texts = _texts(sample, read_documents(config.dataset), bar)
        learned = trainer.train(texts, config.special_tokens, **size)
        for _ in texts:  # what the trainer did not ask for still belongs in the ledger
            pass
    log.say(f"{learned.vocab_size} tokens; encodes with {learned.engine.name} ({learned.engine_reason})")
    enough = min(_ENOUGH_BYTES, total["bytes"] // 500)
    split = "validation" if count(config.dataset, "validation")["bytes"] > enough else "train"
    measured = report.measure(
        learned, lambda: read_documents(config.dataset), lambda: read_documents(config.dataset, split), split
    )
    if config.compare and config.trainer.name == "bpe":
        measured["patterns"] = report.compare_patterns(learned, lambda: read_documents(config.dataset), total["bytes"])
    with publish(config.out, kind="tokenizer", stage="tokenizer", settings=config, inputs=[source.as_input("dataset")],
                 overwrite=config.overwrite) as draft:  # fmt: skip
        learned.save(draft.path)
        draft.ledger = {"sources": sample.ledger, "total": _sum(sample.ledger)}
        draft.metrics = {key: measured[key] for key in ("vocab_size", "engine", "bytes_per_token", "characters_per_token")}
        draft.licences, draft.sources = list(source.lineage.licences), list(source.lineage.sources)
        report.write(draft.path, learned, {**measured, "ledger": draft.ledger})
    assert draft.result is not None
    return draft.result


def _texts(sample: Any, documents: Any, bar: log.Progress) -> Iterator[str]:
    for document in sample.of(documents):
        bar.advance(len(document.text.encode("utf-8", "surrogatepass")))
        yield document.text


def _sum(ledger: dict[str, dict[str, int]]) -> dict[str, int]:
    rows = list(ledger.values())
    return {key: sum(row[key] for row in rows) for key in rows[0]} if rows else {}
