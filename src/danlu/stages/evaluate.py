"""Measure models side by side: bits per byte of text, answers by labels, facts found in long texts."""

import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from danlu.core import log
from danlu.core.artifact import Artifact, check_out, open_artifact, publish
from danlu.core.errors import BadSettings
from danlu.core.lineage import raw_input
from danlu.core.settings import Settings
from danlu.evaluate.haystack import Needle
from danlu.stages import STAGES

_WIDE = 200
"""Columns of the table where no terminal sets a width: figures are never cut."""


class Evaluate(Settings):
    """Several models are compared on the same stretches of text, so that a difference is not blurred by how hard a text is."""

    positional = ("models",)

    models: list[Path] = Field(min_length=1)
    """Folders of the models."""
    text: list[Path] = Field([])
    """Text files to score, in any common encoding."""
    data: Path | None = None
    """Folder of labelled samples (`danlu prepare --form ...`) to judge fine-tuned models by, in place of texts."""
    split: Literal["validation", "train"] = "validation"
    """Which samples of --data; a set without held-out ones is taken whole."""
    overlong: Literal["raise", "truncate"] = "raise"
    """Samples of --data longer than a model's context: stop with an error, or judge by their beginning."""
    needle: Needle = Needle()
    """Facts to find in long texts, in place of texts to score."""
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
    if [bool(config.text), config.data is not None, bool(config.needle.lengths)].count(True) != 1:
        raise BadSettings(
            "give one of --text FILE... to score texts, --data DATASET to judge answers by labels, --needle.lengths TOKENS... to "
            "hide facts in long texts."
        )
    if config.data:
        return judge(config, config.data)
    if config.needle.lengths:
        return search(config)
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


def judge(config: Evaluate, data: Path) -> Artifact:
    """Judge fine-tuned models by labelled samples, print the figures, write the report."""
    from danlu.data.shards import read_documents
    from danlu.engine.folder import model_input
    from danlu.engine.heads import HeadedModel
    from danlu.engine.model import load
    from danlu.evaluate import labelled

    dataset = open_artifact(data, "dataset")
    documents = list(read_documents(data, config.split)) or list(read_documents(data))
    judged = []
    for path, name in zip(config.models, names(config.models), strict=True):
        model = load(path)
        if not isinstance(model, HeadedModel):
            raise BadSettings(f"{path} predicts words; labels are for models that `danlu finetune` gave a head. Use --text.")
        judged.append(labelled.score(model, documents, name, config.overlong))
    inputs = [*map(model_input, config.models), dataset.as_input("data")]
    with publish(config.out, kind="report", stage="evaluate", settings=config, inputs=inputs,
                 overwrite=config.overwrite) as draft:  # fmt: skip
        draft.metrics = labelled.write(draft.path, judged)
    show(labelled.COLUMNS, labelled.rows(judged), [])
    assert draft.result is not None
    return draft.result


def search(config: Evaluate) -> Artifact:
    """Hide facts in long texts, print what each model finds, write the report."""
    from danlu.core.page import Page, write_report
    from danlu.engine.folder import model_input
    from danlu.engine.model import load
    from danlu.evaluate import needle

    scores = [
        needle.search(load(path), name, config.needle)
        for path, name in zip(config.models, names(config.models), strict=True)
    ]  # fmt: skip
    inputs = [*map(model_input, config.models)]
    with publish(config.out, kind="report", stage="evaluate", settings=config, inputs=inputs,
                 overwrite=config.overwrite) as draft:  # fmt: skip
        page = Page("A needle in a haystack")
        needle.write(page, scores)
        draft.metrics = {"needles": [score.figures() for score in scores]}
        write_report(draft.path, page, draft.metrics)
    show(needle.COLUMNS, needle.rows(scores), [])
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
