"""The card of a trained model: what it is, what it learned from, what it measured, how to use it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.core.artifact import Draft
from danlu.core.units import count, duration, size


def write_card(
    name: str, *, facts: Mapping[str, Any], metrics: Mapping[str, Any], ledger: Mapping[str, Any], settings: Mapping[str, Any],
    licences: Sequence[str], sources: Sequence[str],
) -> str:  # fmt: skip
    """README.md of a model folder, with the front matter that model hubs read."""
    masked, answers = (kind in facts.get("kinds", ()) for kind in ("MaskedLM", "Seq2SeqLM"))
    task = "fill-mask" if masked else "text2text-generation" if answers else "text-generation"
    lines = _opening(name, "danlu" if facts.get("own") else "transformers", task)
    begun = f"trained further from `{Path(settings['init']).name}`" if settings.get("init") else "trained from scratch"
    lines += [
        f"A {facts['family']} language model with {count(facts['parameters'])} parameters and a vocabulary of "
        f"{facts['vocab_size']:,}, {begun} with Danlu. Context: {facts['context']:,} tokens."
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
    lines += ["", *_measured(metrics)]
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
    lines += ["", *_settings(settings)]
    lines += ["`lineage.json` leads from this folder back to the raw files; `report.html` shows how the training went."]
    return "\n".join(lines) + "\n"


_TASKS = {
    "classify": ("text-classification", '.classify(["a text"])'), "regress": ("text-classification", '.classify(["a text"])'),
    "tag": ("token-classification", '.tag("a text")'),
    "extract": ("question-answering", '.answer("a question", "a text that answers it")'),
    "embed": ("sentence-similarity", '.embed(["a text"])'),
    "reward": ("text-classification",
               '.score([[{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]])'),
}  # fmt: skip
"""What hubs call the task of a head, and how it is asked."""


def write_task_card(name: str, model: Any, draft: Draft, settings: Mapping[str, Any]) -> str:
    """README.md of the folder of a model with a head."""
    head = model.config.head
    task, use = _TASKS[head.task]
    lines = _opening(name, "transformers", task)
    lines += [f"A {model.config.name} model with {count(draft.metrics['parameters'])} parameters and a head for `{head.task}`, "
              f"fine-tuned with Danlu.", ""]  # fmt: skip
    if head.labels:
        lines += [f"Labels: {', '.join(head.labels[:100])}{' and more' if len(head.labels) > 100 else ''}.", ""]
    if head.task == "regress":
        lines += [f"The score counts deviations: number = {head.mean:g} + {head.deviation:g} x score.", ""]
    lines += ["## Use", "", "```python", "import danlu", "", f'danlu.load("{name}"){use}', "```", ""]
    lines += ["`transformers` opens the folder where it has a class for this family and task. "
              + ("Give it what `apply_chat_template` writes of a finished conversation." if head.task == "reward" else
                 "Danlu puts the first special token before each text (an encoder's closing one behind it too); give "
                 "transformers the same."), ""]  # fmt: skip
    lines += _measured(draft.metrics)
    lines += ["", f"Licences of the text: {', '.join(draft.licences) or 'not recorded'}.",
              f"Sources: {', '.join(draft.sources) or 'not recorded'}.", "", *_settings(settings)]  # fmt: skip
    lines += [
        "`lineage.json` leads to the body and the samples; `report.html` shows how the training went and what it gets wrong."
    ]
    return "\n".join(lines) + "\n"


def write_chat_card(name: str, facts: Mapping[str, Any], draft: Draft, settings: Mapping[str, Any]) -> str:
    """README.md of the folder of a model that was taught from conversations."""
    loads = "`transformers` and other tools load this folder as it is."
    if settings.get("adapter"):
        loads = (f"This is an adapter in PEFT's layout: `peft` lays it on its base, `{Path(settings['model']).name}`; "
                 f"`danlu merge {name} -o MODEL` makes one model of the two.")  # fmt: skip
    lines = _opening(name, "transformers", "text-generation")
    lines += [f"A {facts['family']} language model with {count(facts['parameters'])} parameters, taught with Danlu "
              f"(`{settings['objective']['name']}`) from `{Path(settings['model']).name}`. Context: {facts['context']:,} tokens.",
              "", "## Use", "", "```", f"danlu chat {name}", f"danlu serve {name}", "```", "",
              f"Conversations are written by `chat_template.jinja`, in training as in serving. {loads}", ""]  # fmt: skip
    lines += _measured({key: value for key, value in draft.metrics.items() if key != "change"})
    lines += _changed(draft.metrics.get("change", {}))
    lines += ["", f"Licences of the text: {', '.join(draft.licences) or 'not recorded'}.",
              f"Sources: {', '.join(draft.sources) or 'not recorded'}.", "", *_settings(settings)]  # fmt: skip
    lines += ["`lineage.json` leads back to the model it began from and to the samples; `report.html` shows how it learned."]
    return "\n".join(lines) + "\n"


def _changed(change: Mapping[str, Any]) -> list[str]:
    """What the run changed, as a table."""
    if not change:
        return []
    rows = [
        f"| {name} | {_value(line['before'])} | {_value(line['after'])} | {line['verdict']} |" for name, line in change.items()
    ]
    return ["", "## Before and after", "", "| what | before | after | |", "|---|---:|---:|---|", *rows]


def _value(estimate: Mapping[str, Any] | None) -> str:
    return "" if estimate is None or estimate["value"] is None else f"{estimate['value']:.4g}"


def _opening(name: str, library: str, task: str) -> list[str]:
    """Front matter and title."""
    return ["---", f"library_name: {library}", f"pipeline_tag: {task}", "tags: [danlu]", "---", "", f"# {name}", ""]


def _measured(metrics: Mapping[str, Any]) -> list[str]:
    return ["## Measured", "", "| what | value |", "|---|---|", *(_row(key, value) for key, value in metrics.items())]


def _settings(settings: Mapping[str, Any]) -> list[str]:
    return ["## Settings", "", "```json", json.dumps(settings, ensure_ascii=False, indent=1, default=str), "```", ""]


def _row(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        shown = f"{value['value']:.4f} (95 %: {value['low']:.4f} to {value['high']:.4f})"
    else:
        words = {"seconds": duration, "tokens_per_s": lambda rate: f"{rate:,.0f}"}
        shown = words[key](value) if key in words else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
    return f"| {key.replace('_', ' ')} | {shown} |"
