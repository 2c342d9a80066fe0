"""From source words to the files of a dataset: find, plan, measure, decide, write."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from danlu.core.errors import BadSettings, NoUsableText, nearest
from danlu.core.log import progress, say, warn
from danlu.data import sources
from danlu.data.decide import Decision, decide
from danlu.data.ledger import Ledger
from danlu.data.plan import Shard, plan
from danlu.data.sources import Found, Passed
from danlu.data.statistics import Statistics
from danlu.data.steps import Steps
from danlu.data.write import Writer, write_quarantine


@dataclass
class Prepared:
    """What was learnt while a dataset was written."""

    ledger: Ledger
    statistics: Statistics
    decision: Decision
    quarantine: dict[str, int]
    shards: list[Shard]


def find(
    words: Sequence[str], licences: Sequence[str], steps: Steps, work: Path
) -> tuple[list[Found], list[Passed], dict[str, str]]:
    """Files to read, files passed over, and the licence of each named source. Raises BadInput, BadSettings or NoUsableText."""
    entries = list(sources.expand(words, steps.reader.name if steps.reader else None, work / "fetched"))
    found = [entry for entry in entries if isinstance(entry, Found)]
    passed = [entry for entry in entries if isinstance(entry, Passed)]
    names = {entry.source for entry in entries}
    table = {}
    for word in licences:
        name, colon, licence = word.partition(":")
        if not colon or not licence:
            raise BadSettings(f"--licences {word}: write SOURCE:LICENCE, as in wiki:CC-BY-SA-4.0.")
        if name not in names and names:
            raise BadSettings(f"--licences {word}: no source is called {name!r}. {nearest(name, sorted(names))}")
        table[name] = licence
    if not found:
        reasons = "\n  ".join(f"{entry.path}: {entry.reason}" for entry in passed[:10])
        more = f"\n  and {len(passed) - 10} more" if len(passed) > 10 else ""
        raise NoUsableText(
            f"no file to read in {' '.join(words)}."
            + (f" Passed over:\n  {reasons}{more}" if passed else " The folders are empty. Give files or folders with text.")
        )
    return found, passed, table


def measure(engine: Any, steps: Steps, shards: Sequence[Shard], work: Path) -> list[Path]:
    """Have the engine measure all shards that are not on disk yet; the measured files in order."""
    folder = work / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{steps.key(shard.pieces)}.parquet" for shard in shards]
    todo = [
        (shard, path)
        for shard, path in dict(zip(paths, zip(shards, paths, strict=True), strict=True)).values()
        if not path.exists()
    ]
    if len(todo) < len(shards):
        say(f"{len(shards) - len(todo)} of {len(shards)} shards are measured already")
    with progress("measure", total=sum(shard.bytes for shard, _ in todo), unit="B") as bar:
        for shard in engine.measure(steps, todo):
            bar.advance(shard.bytes)
    for path in folder.iterdir():  # measured with other settings or from other files
        if path.name.partition(".")[0] not in {path.stem for path in paths}:
            path.unlink()
    return paths


def prepare(
    draft_folder: Path, engine: Any, steps: Steps, found: Sequence[Found], passed: Sequence[Passed], licences: Mapping[str, str],
    work: Path, holdout: float, seed: int,
) -> Prepared:  # fmt: skip
    """Write the dataset's files into `draft_folder`. Raises NoUsableText when no document is left."""
    shards = plan(found, dict(licences))
    paths = measure(engine, steps, shards, work)
    decision = decide(steps, paths, holdout, seed)
    writer = Writer(draft_folder, steps, decision, holdout)
    with progress("write", total=len(decision.verdicts), unit="documents") as bar:
        for documents in writer.write(paths):
            bar.advance(documents)
    quarantine = write_quarantine(draft_folder, paths, passed)
    reasons = _reasons(paths)
    if not writer.ledger.get("train")[0]:
        reader = Counter(piece.reader for shard in shards for piece in shard.pieces).most_common(1)[0][0]
        raise NoUsableText(_nothing_left(writer.ledger, reasons, reader))
    if quarantine["unreadable"]:
        warn(f"{quarantine['unreadable']:,} files or records could not be read, most: {reasons[0]} (all: quarantine.jsonl)")
    if passed:
        common = Counter(re.sub("^the same file as .*", "the same file as another", entry.reason) for entry in passed)
        warn(f"{len(passed):,} files or folders were passed over, most: {common.most_common(1)[0][0]} (all: quarantine.jsonl)")
    return Prepared(writer.ledger, writer.statistics, decision, quarantine, shards)


def _reasons(paths: Sequence[Path], most: int = 3, notes: int = 100_000) -> list[str]:
    """The commonest reasons for which files or records could not be read, each with how often and where first."""
    times: Counter[str] = Counter()
    first: dict[str, str] = {}
    for path in paths:
        with open(path.with_suffix(".bad.jsonl"), "rb") as lines:
            for line in islice(lines, notes):
                note = json.loads(line)
                times[note["reason"]] += 1
                first.setdefault(note["reason"], f"{note['path']}, line {note['line']}" if note["line"] else note["path"])
    return [f"{reason} ({count:,} of them, the first: {first[reason]})" for reason, count in times.most_common(most)]


_LOOKS = (
    (r"; it has .*\b(chosen|rejected)\b", "preference"),
    (r"; it has .*\b(messages|conversations|instruction|completion)\b", "chat"),
)
"""Fields by which records of other forms are known where they were read as text."""


def _nothing_left(ledger: Ledger, reasons: Sequence[str], reader: str) -> str:
    total = ledger.total().items()
    rows = {row: amounts[0] for row, amounts in total if amounts[0] and row not in ("read", "split", "edited")}
    worst = sorted(rows.items(), key=lambda item: -item[1])
    lines = [f"{row}: {documents} documents" for row, documents in worst]
    advice = "Loosen the rule that took most, as in --filters length gopher:min_words=1 repetition, or give other text."
    if worst and worst[0][0] == "quarantined":
        lines += [f"  {reason}" for reason in reasons]
        advice = "Give text, or convert these files to text first."
        if any("field" in reason for reason in reasons):
            advice = (f"Name the field or column that holds the text, as in --readers {reader}:text=content "
                      f"(danlu list readers {reader}); with --form those of a sample, as in --form.text review.")  # fmt: skip
        if likely := next((form for fields, form in _LOOKS if any(re.search(fields, reason) for reason in reasons)), None):
            advice += f" These look like samples: --form {likely} reads them as they are."
    return "\n  ".join([f"no document is left of {ledger.get('read')[0]} read:", *lines]) + f"\n{advice}"
