"""How an artefact or a run is laid out on a terminal. No torch."""

import json
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from danlu.core import lineage
from danlu.core.artifact import Artifact
from danlu.core.lineage import Input, Lineage
from danlu.core.log import read_events
from danlu.core.units import duration, size

_MOST_ROWS = 40
_WIDE = 1000


def show(artefact: Artifact) -> None:
    """Print an artefact."""
    console, record = screen(), artefact.lineage
    console.print(f"[bold]{record.kind}[/bold] {record.id}  [dim]{escape(str(artefact.path))}[/dim]")
    console.print(facts(record), markup=False, soft_wrap=True)
    card = artefact.path / "README.md"
    if card.is_file():
        section(console, "card")
        console.print(_cut(card.read_text(encoding="utf-8")), markup=False)
    section(console, "files")
    console.print(files_table(record))
    for title, tree in (("figures", record.metrics), ("ledger", record.ledger), ("settings", record.settings)):
        if tree:
            section(console, title)
            console.print(ledger_table(tree) if title == "ledger" and is_table(tree) else outline(tree), markup=False)
    section(console, "lineage")
    console.print(family(artefact.path))


def facts(record: Lineage) -> str:
    """Lines about how the artefact came to be."""
    code = record.code.get("danlu", "?") + (f" at {record.code['commit'][:12]}" if "commit" in record.code else "")
    code += " with changes of its own" if record.code.get("changed") else ""
    lines = [
        f"made by danlu {record.stage} on {record.created} in {duration(record.wall_s)}, code {code}",
        f"machine: {record.machine.get('processor', '?')}, {record.machine.get('cores', '?')} cores",
    ]
    if record.seeds:
        lines.append("seeds: " + ", ".join(f"{name} {value}" for name, value in record.seeds.items()))
    lines.append(f"licences: {', '.join(record.licences) or 'none stated'}")
    if record.sources:
        lines.append(f"sources: {', '.join(record.sources)}")
    return "\n".join(lines)


def files_table(record: Lineage) -> Table:
    """Names and sizes, largest first where there are many."""
    table = Table("file", box=box.SIMPLE)
    table.add_column("size", justify="right")
    outputs = sorted(record.outputs, key=lambda output: -output.bytes)
    for output in outputs[:_MOST_ROWS]:
        table.add_row(output.file, size(output.bytes))
    if len(outputs) > _MOST_ROWS:
        table.add_row(f"{len(outputs) - _MOST_ROWS} more", size(sum(output.bytes for output in outputs[_MOST_ROWS:])))
    table.add_row(f"{len(outputs)} files", size(sum(output.bytes for output in outputs)), style="bold")
    return table


def is_table(tree: Mapping[str, Any]) -> bool:
    """Whether a ledger is rows (sources, stages) of equal kinds of numbers."""
    return all(
        isinstance(row, Mapping) and row and all(isinstance(n, int | float) for n in row.values()) for row in tree.values()
    )


def ledger_table(tree: Mapping[str, Mapping[str, float]]) -> Table:
    """A row a source; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in tree.values() for name in row))
    table = Table("", box=box.SIMPLE)
    for name in columns:
        table.add_column(name, justify="right")
    for name, row in tree.items():
        table.add_row(name, *(f"{row[key]:,}" if key in row else "" for key in columns))
    return table


def outline(tree: Any) -> str:
    """Nested figures or settings as YAML, long lists and texts cut and said to be cut."""
    return yaml.safe_dump(_short(tree), sort_keys=False, allow_unicode=True, width=110).rstrip()


def family(path: Path) -> Tree:
    """The lineage tree, back to raw files."""
    branches: list[Tree] = []
    for depth, source, record in lineage.trace(path):
        label = _label(source, record)
        branch = branches[depth - 1].add(label) if depth else Tree(label, guide_style="dim")
        branches[depth:] = [branch]
    return branches[0]


def show_run(run: Path) -> None:
    """Print how far a run has come."""
    console = screen()
    events = list(read_events(run / "events.jsonl"))
    console.print(f"[bold]run[/bold] not finished  [dim]{escape(str(run))}[/dim]")
    if not events:
        console.print("nothing recorded yet")
        return
    begun, last = (datetime.fromtimestamp(event["time"]).isoformat(" ", "seconds") for event in (events[0], events[-1]))
    console.print(f"begun {begun}, last sign of life {last}")
    latest = {event["kind"]: event for event in events}
    for kind in ("plan", "step", "heldout", "guard"):
        if kind in latest:
            section(console, f"last {kind}")
            console.print(
                outline({key: value for key, value in latest[kind].items() if key not in ("kind", "time")}), markup=False
            )
    for event in events:
        if event["kind"] == "warn":
            console.print(f"warning: {event['text']}", markup=False)
    saved = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    console.print(f"checkpoints: {', '.join(saved) or 'none yet'}", markup=False)
    console.print("Run the same command again to go on from the last checkpoint.")


def screen() -> Console:
    """The terminal; what is piped elsewhere keeps its lines whole, paths above all."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def section(console: Console, title: str) -> None:
    """A heading with room above it."""
    console.print(f"\n[bold]{title}[/bold]")


def _label(source: Input | None, record: Lineage | None) -> str:
    role = f"{source.role}: " if source else ""
    if record is not None:
        place = f"  [dim]{escape(source.path)}[/dim]" if source else ""
        return f"{role}[bold]{record.kind}[/bold] {record.id} by danlu {record.stage}{place}"
    assert source is not None
    many = f", {source.files:,} files" if source.files else ""
    weight = f", {size(source.bytes)}" if source.bytes is not None else ""
    lost = "" if "sha256:" in source.id else "  [yellow](no longer there, or made again since)[/yellow]"
    return f"{role}{escape(source.path)}  [dim]{source.id[:29]}{many}{weight}[/dim]{lost}"


def _short(value: Any, most: int = 12) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _short(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        shown = [_short(part) for part in value[:most]]
        return [*shown, f"... {len(value) - most} more"] if len(value) > most else shown
    if isinstance(value, str) and len(value) > 400:
        return f"{value[:400]} ... ({len(value)} characters)"
    return json.loads(json.dumps(value, default=str))


def _cut(text: str, most: int = 30) -> str:
    lines = re.sub(r"\A---\n.*?\n---\n+", "", text, flags=re.DOTALL).rstrip().splitlines()  # without the card's metadata
    return "\n".join(lines[:most] + ([f"... {len(lines) - most} more lines in README.md"] if len(lines) > most else []))
