"""The data card (README.md), the illustrated report, and the headline figures of a dataset."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from danlu.core import files
from danlu.core.page import Page, write_report
from danlu.core.units import size
from danlu.data.filters import FILTERS
from danlu.data.forms import FORMS
from danlu.data.ledger import UNITS, order
from danlu.data.pipeline import Prepared
from danlu.data.statistics import EDGES
from danlu.data.steps import Steps

_EXAMPLES = 12


def metrics(done: Prepared) -> dict[str, Any]:
    """Headline figures for the lineage record."""
    return {
        **{split: dict(zip(UNITS, done.ledger.get(split), strict=True)) for split in ("train", "validation")},
        "languages": dict(done.statistics.languages.most_common(20)),
        "quarantine": done.quarantine,
    }


def write(folder: Path, steps: Steps, done: Prepared) -> None:
    """README.md, report.html and report.json."""
    files.write_text(folder / "README.md", _card(steps, done))
    write_report(folder, _page(folder, steps, done), _figures(done))


def _rows(done: Prepared) -> list[tuple[str, int, int, int]]:
    total = done.ledger.total()
    return [(row, *total[row]) for row in sorted(total, key=order)]  # type: ignore[misc]  # three units


def _card(steps: Steps, done: Prepared) -> str:
    kept, validation, seen = done.ledger.get("train"), done.ledger.get("validation"), done.statistics
    lines = [
        "# Data card", "",
        f"{kept[0]:,} documents to train on ({kept[1]:,} characters, {size(kept[2])} of UTF-8) and "
        f"{validation[0]:,} to validate on ({validation[1]:,} characters). "
        "Made by `danlu prepare`; `lineage.json` has every setting.", "",
        "## Sources and licences", "",
        *_table(("source", "licences (documents kept)", "read", "kept", "share kept"), _source_rows(done)), "",
    ]  # fmt: skip
    if "unknown" in seen.licences:
        share = seen.licences["unknown"] / max(sum(seen.licences.values()), 1)
        lines += [f"**Licence unknown for {share:.1%} of the text.** State it with `--licences SOURCE:LICENCE` before sharing "
                  f"this dataset or a model trained on it.", ""]  # fmt: skip
    lines += ["## Languages", "", _how_language(steps), "", *_table(("language", "bytes", "share"), _shares(seen.languages)), ""]
    lines += ["## Where everything went", "", "Columns add up: read + split = all rows below them.", ""]
    lines += [*_table(("", *UNITS), _rows(done)), "", "## Steps", "", *_step_lines(steps), ""]
    lines += [
        "## Files", "",
        f"- `train-*.parquet`, `validation-*.parquet`: id, source, path, line, text, licence, language, signals{_labels(steps)}",
        "- `dropped.parquet`: every document that did not stay, with rule, value, threshold and the copy that stayed instead",
        f"- `quarantine.jsonl`: {done.quarantine['unreadable']} unreadable files or records, "
        f"{done.quarantine['passed over']} files passed over, with reasons",
        "- `sources.parquet`: every raw file that was read, with its sha256; `danlu inspect --verify` compares",
        "- `ledger.json`: the table above, by source; `report.html`: the same with pictures and examples",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _labels(steps: Steps) -> str:
    """The columns of labelled samples, in words."""
    return "".join(f", {name}" for name in FORMS[steps.form.name].columns) if steps.form else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows)]


def _source_rows(done: Prepared) -> list[tuple[str, str, str, str, str]]:
    found = []
    for source in done.ledger.sources:
        read, kept = done.ledger.get("read", source)[2], sum(done.ledger.get(row, source)[2] for row in ("train", "validation"))
        licences = done.statistics.by_source.get(source, Counter())
        said = ", ".join(f"{licence} ({count:,})" for licence, count in sorted(licences.items(), key=lambda item: -item[1])[:5])
        found.append((source, said or "nothing kept", size(read), size(kept), f"{kept / max(read, 1):.1%}"))
    return found


def _shares(counter: Mapping[str, int]) -> list[tuple[str, int, str]]:
    whole = max(sum(counter.values()), 1)
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:20]
    return [(name, count, f"{count / whole:.1%}") for name, count in ordered]


def _how_language(steps: Steps) -> str:
    ways = {
        "rough": "Told from script and common words: a rough guess. Source code counts as its programming language.",
        "langid": "Told by py3langid from the first 2000 characters of a document.",
        "none": "Not determined.",
    }
    return ways[steps.language]


def _step_lines(steps: Steps) -> list[str]:
    lines = [f"- Unicode and white space: {', '.join(config.name for config in steps.editors) or 'untouched'}; "
             f"source code: {', '.join(config.name for config in steps.code_editors) or 'untouched'}"]  # fmt: skip
    for config in steps.filters:
        for rule in FILTERS.build(config).rules():
            bounds = (("at least", rule.least), ("at most", rule.most))
            said = " and ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)
            lines.append(f"- {config.name}.{rule.name}: {said}")
    copies = [f"{config.name} ({', '.join(f'{key} {value}' for key, value in config if key != 'name') or 'whole text'})"
              for config in steps.dedups]  # fmt: skip
    lines.append(f"- copies: {', '.join(copies) or 'kept'}; of each group the document with most unrepeated text stays, then the "
                 f"first source, then the smallest id")  # fmt: skip
    return lines


def _page(folder: Path, steps: Steps, done: Prepared) -> Page:
    kept, read = done.ledger.get("train"), done.ledger.get("read")
    page = Page("Dataset", "What was read, what stayed, what went and why")
    page.facts({
        "documents to train on": kept[0], "characters": kept[1], "of the characters read": f"{kept[1] / max(read[1], 1):.1%}",
        "to validate on": done.ledger.get("validation")[0], "unreadable": done.quarantine["unreadable"],
    })  # fmt: skip
    page.heading("Where everything went")
    page.table(("", *UNITS), _rows(done))
    gone = _gone(done)
    if gone:
        rows = [(row.removeprefix("dropped: "), characters) for row, characters in gone.items()]
        page.bars(("reason", "characters"), rows, "Characters that did not stay, by reason")
    else:
        page.text("Everything that was read stayed.")
    page.heading("Lengths")
    page.bars(("characters", "went", "stayed"), _lengths(done), "Documents by length: those that went and those that stayed")
    page.heading("Sources and licences")
    page.table(("source", "licences", "read", "kept", "share kept"), _source_rows(done))
    page.heading("Languages")
    page.text(_how_language(steps))
    page.table(("language", "bytes", "share"), _shares(done.statistics.languages))
    examples = _examples(folder)
    if examples:
        page.heading("Examples of what went")
    for row in examples:
        page.fold(f"{row['rule']}: {row['path']}, line {row['line']}", _example_text(row))
    page.heading("Steps")
    page.code("\n".join(_step_lines(steps)))
    return page


def _gone(done: Prepared) -> dict[str, int]:
    """Characters that did not stay, by reason, the most first."""
    total, stays = done.ledger.total(), ("read", "split", "train", "validation", "edited")
    gone = {row: total[row][1] for row in sorted(total, key=order) if row not in stays and total[row][1]}
    return dict(sorted(gone.items(), key=lambda item: -item[1]))


def _lengths(done: Prepared) -> list[tuple[str, int, int]]:
    """From the shortest class of lengths that has documents to the longest: its bounds, how many went, how many stayed."""
    gone, kept = done.statistics.gone.tolist(), done.statistics.kept.tolist()
    full = [place for place in range(len(EDGES)) if gone[place] or kept[place]]
    bounds = [f"{low:,} to {high - 1:,}" if high > low + 1 else f"{low:,}" for low, high in pairwise((0, *EDGES[1:]))]
    bounds.append(f"{EDGES[-1]:,} or more")
    return [(bounds[place], gone[place], kept[place]) for place in range(min(full), max(full) + 1)] if full else []


def _examples(folder: Path) -> list[dict[str, Any]]:
    """The first few dropped documents of each rule, from the first row groups of dropped.parquet."""
    import pyarrow.parquet as pq

    taken: dict[str, list[dict[str, Any]]] = {}
    with pq.ParquetFile(folder / "dropped.parquet") as file:
        for group in range(min(file.num_row_groups, 50)):
            for row in file.read_row_group(group).to_pylist():
                rows = taken.setdefault(row["rule"], [])
                if len(rows) < 2:
                    rows.append(row)
    return [row for rule in sorted(taken) for row in taken[rule]][: 2 * _EXAMPLES]


def _example_text(row: Mapping[str, Any]) -> str:
    bound = "" if row["threshold"] is None else f", the limit is {row['threshold']:.4g}"
    twin = f", copy of {row['twin']}" if row["twin"] else ""
    return f"value {row['value']:.4g}{bound}{twin}\n\n{row['beginning']}"


def _figures(done: Prepared) -> dict[str, Any]:
    return json.loads(json.dumps({  # type: ignore[no-any-return]
        "ledger": done.ledger.as_dict(), "languages": dict(done.statistics.languages), "licences": dict(done.statistics.licences),
        "quarantine": done.quarantine,
        "lengths": {"edges": EDGES, "kept": done.statistics.kept.tolist(), "gone": done.statistics.gone.tolist()},
    }))  # fmt: skip
