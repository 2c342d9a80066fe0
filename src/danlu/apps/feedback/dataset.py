"""The judgements as a data set of preferences: shards that `danlu align` reads, every judgement, card and report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from danlu.apps.feedback.outcome import VERDICTS, Outcome, figures
from danlu.core import files
from danlu.core.page import Page, new_figure, write_report
from danlu.core.seeds import derive
from danlu.data.forms import FORMS
from danlu.data.ledger import Ledger
from danlu.data.shards import ShardWriter, schema

SOURCE = "feedback"
_MORE = {"annotator": "text", "reason": "text"}
"""Columns beside those of the form."""


@dataclass(frozen=True)
class Written:
    """What a data set holds."""

    ledger: Ledger
    figures: dict[str, Any]


def write(folder: Path, found: Sequence[Outcome], holdout: float, seed: int, licence: str) -> Written:
    """Every file but the lineage record. holdout: share of the prompts that validate; all pairs of a prompt stay together."""
    import pyarrow as pa

    columns = {**FORMS["preference"].columns, **_MORE}
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    ledger = Ledger()
    preferred = [json.dumps(each.pair.prompt) for each in found if each.verdict == "preferred"]
    held = {prompt for prompt in preferred if derive(seed, "holdout", prompt) / 2**63 < holdout}
    held = held if held < set(preferred) else set()  # something must be left to learn from
    for each in found:
        row = sample(each, licence)
        amounts = 1, len(row["text"]), len(row["text"].encode())
        ledger.add(SOURCE, "read", *amounts)
        if each.verdict != "preferred":
            ledger.add(SOURCE, f"dropped: {each.verdict}", *amounts)
            continue
        split = "validation" if json.dumps(each.pair.prompt) in held else "train"
        ledger.add(SOURCE, split, *amounts)
        rows[split].append(row)
    ledger.check()
    for split, part in rows.items():
        writer = ShardWriter(folder, split, columns)
        writer.write(pa.Table.from_pylist(part, schema=schema(columns)))
        writer.close()
    with files.atomic(folder / "judgements.jsonl") as out:
        for each in found:
            said = [asdict(one) for one in each.judgements]
            record = {**asdict(each.pair), "verdict": each.verdict, "winner": each.winner, "judgements": said}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    files.write_text(folder / "ledger.json", json.dumps(ledger.as_dict(), ensure_ascii=False, indent=1) + "\n")
    told = figures(found)
    files.write_text(folder / "README.md", card(told, ledger, licence))
    write_report(folder, page(told, found), told)
    return Written(ledger, told)


def sample(each: Outcome, licence: str) -> dict[str, Any]:
    """A row; of a pair without a better answer what is asked and both answers, for the ledger."""
    better = each.winner or 0
    chosen, rejected = ([_message(each, at)] for at in (better, 1 - better))
    prompt, supporters = list(each.pair.prompt), each.supporters
    record = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    form = FORMS.build(FORMS["preference"].Config())
    text = form.text(record)
    return {
        "id": f"{derive(0, each.pair.id, text):016x}", "source": SOURCE, "path": each.pair.path, "line": each.pair.line,
        "text": text, "licence": licence, "language": "und", "signals": {},
        **{name: json.dumps(part, ensure_ascii=False, separators=(",", ":")) for name, part in record.items()}, "tools": "",
        "annotator": ", ".join(one.annotator for one in supporters),
        "reason": "\n".join(one.reason for one in supporters if one.reason),
    }  # fmt: skip


def _message(each: Outcome, at: int) -> dict[str, Any]:
    answer = each.pair.answers[at]
    thought = {"reasoning_content": answer.thought} if answer.thought else {}
    return {"role": "assistant", "content": answer.text, **thought}


def card(told: dict[str, Any], ledger: Ledger, licence: str) -> str:
    """README.md."""
    kept, held = ledger.get("train")[0], ledger.get("validation")[0]
    lines = ["# Data card", "",
             f"{kept:,} preferences to learn from and {held:,} to validate on, judged by {len(told['annotators'])} annotator(s) "
             f"in {told['judgements']:,} judgements, blind and in an order of chance. Made by `danlu feedback`; `lineage.json` "
             f"has every setting.", "",
             f"Licence of the text: {licence}.", "",
             "## What became of the pairs", "", "| | pairs |", "|---|---|",
             *(f"| {name} | {told['verdicts'][name]:,} |" for name in VERDICTS), "",
             "## Agreement and sway", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in headlines(told)), "",
             "## Files", "",
             "- `train-*.parquet`, `validation-*.parquet`: id, source, path, line, text, licence, language, signals, prompt, "
             "chosen, rejected, tools, annotator (who preferred it), reason",
             "- `judgements.jsonl`: every pair with its models and seeds, its verdict, and each judgement with the order in "
             "which the answers were shown",
             "- `ledger.json`: where every pair went; `report.html`: the same with tables by annotator", ""]  # fmt: skip
    return "\n".join(lines)


def headlines(told: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that people ask for first."""
    agreed, compared = told["agreement"], told["models"]
    found = [("pairs judged by two or more", f"{agreed['pairs']:,}")]
    if agreed["pairs"]:
        alpha, low, high = (agreed[name] for name in ("krippendorff_alpha", "alpha_low", "alpha_high"))
        interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
        found += [("said the same", f"{agreed['observed']:.1%}"),
                  ("Krippendorff's alpha", "cannot be said" if alpha is None else f"{alpha:.3f}{interval}")]  # fmt: skip
    found += [(f"Cohen's kappa of {' and '.join(one['annotators'])}",
               "cannot be said" if one["kappa"] is None else f"{one['kappa']:.3f} ({one['pairs']} pairs)")
              for one in agreed["cohen_kappa"]]  # fmt: skip
    found += [("answer shown first was taken (half: no sway)", percent(told["first_shown_wins"])),
              ("longer answer was taken", percent(told["longer_wins"])),
              ("better answers that were cut at --max_tokens", f"{told['chosen_cut']:,}")]  # fmt: skip
    if compared:
        found.append((f"{compared['names'][1]} better than {compared['names'][0]}", percent(compared["second_wins"])))
    return found


def percent(part: dict[str, Any]) -> str:
    """A share with its interval.

    >>> percent({"hits": 15, "trials": 20, "share": 0.75, "low": 0.531, "high": 0.888})
    '75.0% of 20 (53.1% to 88.8%)'
    """
    if not part["trials"]:
        return "cannot be said"
    return f"{part['share']:.1%} of {part['trials']:,} ({part['low']:.1%} to {part['high']:.1%})"


def page(told: dict[str, Any], found: Sequence[Outcome]) -> Page:
    """report.html."""
    made = Page("Feedback", "What people preferred, how far they agree, and what may have swayed them")
    made.facts({"pairs": len(found), "preferred": told["verdicts"]["preferred"], "judgements": told["judgements"],
                "annotators": len(told["annotators"])})  # fmt: skip
    made.heading("What became of the pairs")
    made.table(("", "pairs"), [(name, told["verdicts"][name]) for name in VERDICTS])
    made.figure(_verdicts(told), "Pairs by verdict")
    made.heading("Agreement and sway")
    made.table(("", ""), headlines(told))
    made.text("Alpha and kappa are 1 where people always agree and 0 where they agree as often as chance would have it. "
              "Intervals hold 95 %.")  # fmt: skip
    made.heading("Annotators")
    names = ("judgements", "first", "second", "tie", "bad", "skip", "median_seconds")
    made.table(("annotator", *(name.replace("_", " ") for name in names)),
               [(who, *("–" if row[name] is None else row[name] for name in names))
                for who, row in told["annotators"].items()])  # fmt: skip
    reasons = [(each, one) for each in found for one in each.judgements if one.reason][:20]
    if reasons:
        made.heading("Reasons")
    for each, one in reasons:
        made.fold(f"{one.annotator}: {one.reason[:80]}", sample(each, "")["text"])
    return made


def _verdicts(told: dict[str, Any]) -> Any:
    figure, axes = new_figure(height=0.6 + 0.28 * len(VERDICTS))
    axes.barh(VERDICTS, [told["verdicts"][name] for name in VERDICTS], color="#b5432a")
    axes.invert_yaxis()
    axes.set_xlabel("pairs")
    return figure
