"""What a vocabulary is worth: compression by language and source, tokens nobody uses, its price in parameters, its pieces."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from danlu.core import files
from danlu.core.page import Page, new_figure, write_report
from danlu.core.units import size
from danlu.tokenizer.definition import from_characters
from danlu.tokenizer.readable import readable
from danlu.tokenizer.sample import EvenSample, auto_vocab_size
from danlu.tokenizer.tokenizer import Tokenizer

_COUNTED_BYTES, _CURVE_BYTES, _COMPARED_BYTES = 16_000_000, 1_000_000, 2_000_000
"""Most text for token counts, for the curve over vocabulary sizes, and for the comparison of patterns."""
_RARE = 3
_WIDTHS = (256, 512, 1024, 2048)
_BATCH = 256


class _Document(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def language(self) -> str: ...


Read = Callable[[], Iterable[_Document]]


def measure(tokenizer: Tokenizer, train: Read, held_out: Read, split: str) -> dict[str, Any]:
    """Figures of a tokenizer: compression on `held_out` (its split is named in the result), token use on `train`."""
    table = _compression(tokenizer, _even(held_out))
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    counted = 0
    for batch in _batches(_even(train)):
        counted += sum(len(text.encode()) for text in batch)
        for ids in tokenizer.encode_batch(batch):
            counts += np.bincount(ids, minlength=len(counts))
    total = table["all"]
    return {
        "vocab_size": tokenizer.vocab_size, "id": tokenizer.id, "engine": tokenizer.engine.name,
        "engine_reason": tokenizer.engine_reason, "special_tokens": tokenizer.special_tokens, "measured_on": split,
        "bytes_per_token": total["bytes_per_token"], "characters_per_token": total["characters_per_token"],
        "compression": table, "use": {"counted_bytes": counted, **_use(tokenizer, counts)},
        "curve": _curve(tokenizer, _even(held_out, _CURVE_BYTES)),
    }  # fmt: skip


def compare_patterns(tokenizer: Tokenizer, read: Read, total_bytes: int) -> dict[str, Any]:
    """Bytes per token of our pattern against those of GPT-2 and GPT-4, all trained on the same small sample at equal size.

    Every eighth document of the sample is kept for measuring.
    """
    from danlu.tokenizer.trainers.bpe import ByteLevelBPE

    documents = list(EvenSample(total_bytes, _COMPARED_BYTES).of(read()))
    learn = [document.text for at, document in enumerate(documents) if at % 8 or len(documents) < 8]
    kept = [document for at, document in enumerate(documents) if at % 8 == 0]
    wanted = min(tokenizer.vocab_size, auto_vocab_size(sum(len(text.encode()) for text in learn)))
    found = {}
    for name in ("danlu", "gpt2", "gpt4"):
        trainer = ByteLevelBPE(ByteLevelBPE.Config(pattern=name))
        other = trainer.train(learn, list(tokenizer.special_tokens), vocab_size=wanted, shrink=True)
        table = _compression(other, kept)
        found[name] = {key: row["bytes_per_token"] for key, row in table.items() if key == "all" or key.startswith("language ")}
    return {"vocab_size": wanted, "text_bytes": sum(len(text.encode()) for text in learn), "bytes_per_token": found}


def _even(read: Read, most_bytes: int = _COUNTED_BYTES) -> Iterator[_Document]:
    """An even sample of documents; one pass for their size, one for themselves."""
    total = sum(len(document.text.encode()) for document in read())
    return EvenSample(total, most_bytes).of(read())


def _batches(documents: Iterable[_Document]) -> Iterator[list[str]]:
    batch: list[str] = []
    for document in documents:
        batch.append(document.text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _compression(tokenizer: Tokenizer, documents: Iterable[_Document]) -> dict[str, dict[str, Any]]:
    """Rows `all`, `language X`, `source Y`: documents, bytes, characters, tokens and what follows from them."""
    rows: dict[str, Counter[str]] = {"all": Counter()}
    for document in documents:
        text = document.text
        amounts = {
            "documents": 1,
            "bytes": len(text.encode()),
            "characters": len(text),
            "tokens": len(tokenizer.encode_array(text)),
        }
        for key in ("all", f"language {document.language}", f"source {document.source}"):
            rows.setdefault(key, Counter()).update(amounts)
    return {
        key: {**{name: row[name] for name in ("documents", "bytes", "characters", "tokens")},
              "bytes_per_token": round(row["bytes"] / max(row["tokens"], 1), 4),
              "characters_per_token": round(row["characters"] / max(row["tokens"], 1), 4)}
        for key, row in rows.items()
    }  # fmt: skip


def _use(tokenizer: Tokenizer, counts: "np.ndarray[Any, Any]") -> dict[str, Any]:
    """Which learned tokens the text uses never or hardly: embeddings that training will leave as they were drawn."""
    special = set(tokenizer.special_tokens.values())
    bytes_of = {number: tokenizer.token_bytes(number) for number in range(tokenizer.vocab_size) if number not in special}
    learned = [number for number, token in bytes_of.items() if len(token) > 1]
    unused = [number for number in learned if counts[number] == 0]
    rare = [number for number in learned if 0 < counts[number] <= _RARE]
    longest = sorted(learned, key=lambda number: (-len(bytes_of[number]), number))
    often = sorted(bytes_of, key=lambda number: (-counts[number], number))
    doubtful = sorted(unused + rare, key=lambda number: (counts[number], -len(bytes_of[number]), number))

    def show(numbers: Sequence[int], most: int) -> list[dict[str, Any]]:
        return [{"id": number, "token": readable(bytes_of[number]), "count": int(counts[number])} for number in numbers[:most]]

    return {
        "learned": len(learned), "unused": len(unused), "rare": len(rare), "rare_means_at_most": _RARE,
        "unused_bytes": sum(int(counts[number]) == 0 for number in bytes_of if len(bytes_of[number]) == 1),
        "glitch_candidates": show(doubtful, 60), "longest": show(longest, 40), "most_used": show(often, 60),
        "pieces": show(learned[:: max(1, len(learned) // 200)], 200),
    }  # fmt: skip


def _curve(tokenizer: Tokenizer, documents: Iterable[_Document]) -> list[dict[str, Any]]:
    """Bytes per token were the vocabulary smaller: a byte-level BPE holds every smaller one inside it, as its first merges."""
    from danlu.tokenizer.engines import Tiktoken

    if tokenizer.engine.name != Tiktoken.name:
        return []
    texts = [document.text for document in documents]
    text_bytes = sum(len(text.encode()) for text in texts)
    special = tokenizer.special_tokens
    ids = {from_characters(name) or b"": number for name, number in tokenizer.vocab.items() if name not in special}
    sizes = [1 << power for power in range(9, 18) if 1 << power < tokenizer.vocab_size]
    rows = []
    for wanted in [*sizes, tokenizer.vocab_size]:
        smaller = Tiktoken({token: number for token, number in ids.items() if number < wanted}, tokenizer.engine.pattern)  # type: ignore[attr-defined]
        tokens = sum(len(smaller.encode(text)) for text in texts)
        rows.append({"vocab_size": wanted, "bytes_per_token": round(text_bytes / max(tokens, 1), 4)})
    return rows


def write(folder: Path, tokenizer: Tokenizer, figures: Mapping[str, Any]) -> None:
    """report.html, report.json and the card of a tokenizer."""
    write_report(folder, page(tokenizer, figures), figures)
    files.write_text(folder / "README.md", card(tokenizer, figures))


def page(tokenizer: Tokenizer, figures: Mapping[str, Any]) -> Page:
    """The report for people."""
    use = figures["use"]
    page = Page("Tokenizer", f"{tokenizer.id}, measured on the {figures['measured_on']} split")
    page.facts({
        "tokens": figures["vocab_size"], "bytes per token": figures["bytes_per_token"],
        "characters per token": figures["characters_per_token"], "learned, never used": use["unused"],
        "encoded by": figures["engine"],
    })  # fmt: skip
    page.text("Bytes alone would be 1 byte per token: the second figure is how many times shorter sequences become.")
    page.heading("Compression")
    columns = ("text", "documents", "bytes", "tokens", "bytes per token", "characters per token")
    page.table(columns, [[key, row["documents"], row["bytes"], row["tokens"], row["bytes_per_token"], row["characters_per_token"]]
                         for key, row in figures["compression"].items()])  # fmt: skip
    if figures.get("patterns"):
        _pattern_table(page, figures["patterns"])
    if figures["curve"]:
        _price(page, figures["curve"])
    page.heading("Tokens that may never be learned")
    page.text(
        f"{use['unused']:,} of {use['learned']:,} learned tokens do not occur in {size(use['counted_bytes'])} of training text, "
        f"{use['rare']:,} occur at most {use['rare_means_at_most']} times. Many are steps on the way to longer tokens. Their "
        f"embeddings stay nearly as they were drawn, and a model may act oddly on them; a smaller vocabulary has fewer."
    )
    for title, key in (
        ("Rarest", "glitch_candidates"),
        ("Most used", "most_used"),
        ("Longest", "longest"),
        ("All over", "pieces"),
    ):
        page.heading(f"{title} tokens")
        page.text("  ".join(f"{row['token']} ({row['count']:,})" for row in use[key]) or "none")
    if figures.get("ledger"):
        page.heading("Text it was learned from")
        rows = [*figures["ledger"]["sources"].items(), ("all", figures["ledger"]["total"])]
        page.table(("source", *figures["ledger"]["total"]), [[name, *row.values()] for name, row in rows])
    return page


def _pattern_table(page: Page, patterns: Mapping[str, Any]) -> None:
    found = patterns["bytes_per_token"]
    page.heading("Our cut against others'")
    page.text(f"Bytes per token, all trained on the same {size(patterns['text_bytes'])} at {patterns['vocab_size']} tokens, "
              f"measured on documents kept apart.")  # fmt: skip
    page.table(("pattern", *found["danlu"]), [[name, *row.values()] for name, row in found.items()])


def _price(page: Page, curve: Sequence[Mapping[str, Any]]) -> None:
    page.heading("What a vocabulary costs")
    page.text("Parameters of one embedding matrix by model width, and what the size buys.")
    rows = [[row["vocab_size"], row["bytes_per_token"], *(row["vocab_size"] * width for width in _WIDTHS)] for row in curve]
    page.table(("tokens", "bytes per token", *(f"width {width}" for width in _WIDTHS)), rows)
    figure, axes = new_figure(height=2.6)
    axes.plot([row["vocab_size"] for row in curve], [row["bytes_per_token"] for row in curve], marker="o", color="#b5432a")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("tokens in the vocabulary")
    axes.set_ylabel("bytes per token")
    page.figure(figure, "Compression over vocabulary size: where the curve is flat, more tokens buy little.")


def card(tokenizer: Tokenizer, figures: Mapping[str, Any]) -> str:
    """README.md of a tokenizer."""
    rows = "\n".join(
        f"| {key} | {row['bytes']:,} | {row['bytes_per_token']} | {row['characters_per_token']} |"
        for key, row in figures["compression"].items()
    )
    special = ", ".join(f"`{name}` ({number})" for name, number in tokenizer.special_tokens.items())
    return f"""# Tokenizer {tokenizer.id}

{figures["vocab_size"]:,} tokens, {tokenizer.parts["model"]["type"]}. Made by `danlu tokenizer`; how and from what:
`lineage.json`.

- Any text round-trips exactly where the vocabulary holds all bytes; special tokens in text stay text unless allowed by name.
- Special tokens: {special or "none"}.
- Encoded by {figures["engine"]}: {figures["engine_reason"]}.

| text | bytes | bytes per token | characters per token |
|---|---|---|---|
{rows}

```python
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("this folder")
```
"""
