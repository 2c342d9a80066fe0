"""The card of a trained model: what it is, what it learned from, what it measured, how to use it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from danlu.core.units import count, duration, size


def write_card(
    name: str, *, facts: Mapping[str, Any], metrics: Mapping[str, Any], ledger: Mapping[str, Any], settings: Mapping[str, Any],
    licences: Sequence[str], sources: Sequence[str],
) -> str:  # fmt: skip
    """README.md of a model folder, with the front matter that model hubs read."""
    masked, answers = (kind in facts.get("kinds", ()) for kind in ("MaskedLM", "Seq2SeqLM"))
    task = "fill-mask" if masked else "text2text-generation" if answers else "text-generation"
    library = "danlu" if facts.get("own") else "transformers"
    lines = ["---", f"library_name: {library}", f"pipeline_tag: {task}", "tags: [danlu]", "---", "", f"# {name}", ""]
    lines += [
        f"A {facts['family']} language model with {count(facts['parameters'])} parameters and a vocabulary of "
        f"{facts['vocab_size']:,}, trained from scratch with Danlu. Context: {facts['context']:,} tokens."
    ]
    opening = {
        "masked": f"Once upon a {facts.get('mask')}, there was a king.",
        "span": "Once upon a <|extra_0|>, there was a king.",
    }.get(facts.get("objective", ""), "Once upon a time")
    does = f"fills gaps (`{facts.get('mask')}`) and cannot write on" if masked else "completes text"
    if answers:
        does = "reads a text and writes another: what its objective hid or asked for"
    between = " --suffix ' there was a king.'" if facts.get("objective") == "fim" else ""
    lines += ["", "## Use", "", "```", f"danlu generate {name} '{opening}'{between}", "```", ""]
    loads = "Only Danlu has this family." if facts.get("own") else "`transformers` and other tools load this folder as it is."
    lines += [f"It {does}; it was not taught to follow instructions. {loads}"]
    lines += ["", "## Measured", "", "| what | value |", "|---|---|", *(_row(key, value) for key, value in metrics.items())]
    if (unit := facts.get("unit", "token")) != "token":
        lines += ["", f"Losses are nats per {unit}; they are no bits per byte of the text."]
    lines += ["", "## Trained on", "", "| source | documents | bytes | tokens |", "|---|---:|---:|---:|"]
    for source, row in ledger["train_sources"].items():
        lines.append(f"| {source} | {row['documents']:,} | {size(row['bytes'])} | {row['tokens']:,} |")
    lines += [
        "",
        f"Licences of the text: {', '.join(licences) or 'not recorded'}.",
        f"Sources: {', '.join(sources) or 'not recorded'}.",
    ]
    lines += [
        "",
        "The model can repeat what it read. Nothing was done to remove private or offensive text beyond the data set's filters.",
    ]
    lines += ["", "## Settings", "", "```json", json.dumps(settings, ensure_ascii=False, indent=1, default=str), "```", ""]
    lines += ["`lineage.json` leads from this folder back to the raw files; `report.html` shows how the training went."]
    return "\n".join(lines) + "\n"


def _row(key: str, value: Any) -> str:
    words = {"seconds": lambda: duration(value), "tokens_per_s": lambda: f"{value:,.0f}"}
    shown = words[key]() if key in words else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
    return f"| {key.replace('_', ' ')} | {shown} |"
