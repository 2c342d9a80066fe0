"""Measure models on text: perplexity, bits per byte with their uncertainty, side by side."""

import sys
from pathlib import Path

from pydantic import Field

from danlu.core import log
from danlu.core.artifact import Artifact, check_out, publish
from danlu.core.lineage import raw_input
from danlu.core.settings import Settings
from danlu.stages import STAGES

_WIDE = 200
"""Columns of the table where no terminal sets a width: figures are never cut."""


class Evaluate(Settings):
    """Several models are compared on the same stretches of text, so that a difference is not blurred by how hard a text is."""

    positional = ("models",)

    models: list[Path] = Field(min_length=1)
    """Folders of the models."""
    text: list[Path] = Field(min_length=1)
    """Text files to score, in any common encoding."""
    out: Path
    """Folder to write: report.html, report.json."""
    window: int | None = Field(None, ge=2)
    """Most tokens that a model sees at once; left out, its context."""
    stride: int | None = Field(None, ge=1)
    """Tokens scored by each window after the first; left out, half a window. Less is slower and fairer to the model."""
    overwrite: bool = False
    """Whether to replace a finished output."""


@STAGES.register
def evaluate(config: Evaluate) -> Artifact:
    """Score the texts with each model, print the table, write the report."""
    check_out(config.out, config.overwrite)
    from danlu.engine.folder import model_input
    from danlu.engine.model import load
    from danlu.evaluate import pseudo, report
    from danlu.evaluate.text import read_texts

    texts = read_texts(config.text)
    scores = [
        one
        for path, name in zip(config.models, names(config.models), strict=True)
        for one in pseudo.scores(load(path), texts, name, window=config.window, stride=config.stride)
    ]
    inputs = [*map(model_input, config.models), *(raw_input("text", path) for path in config.text)]
    with publish(config.out, kind="report", stage="evaluate", settings=config, inputs=inputs,
                 overwrite=config.overwrite) as draft:  # fmt: skip
        draft.metrics = report.write(draft.path, scores)
    show(report.COLUMNS, report.rows(scores), report.differences(scores))
    if about := report.note(scores):
        log.say(about)
    assert draft.result is not None
    return draft.result


def names(paths: list[Path]) -> list[str]:
    """Short names of model folders; whole paths where short ones would be the same."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def show(columns: tuple[str, ...], rows: list[list[str]], differences: list[dict]) -> None:
    """The table on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for pair in differences:
        console.print(f"{pair['first']} - {pair['second']}: {pair['difference']:+.4f} bits per byte, 95 % interval "
                      f"{pair['low']:+.4f} to {pair['high']:+.4f}: {pair['meaning']}", markup=False, highlight=False)  # fmt: skip
