"""Measure models side by side: bits per byte of text, tasks, answers by labels, facts found in long texts."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from danlu.core import log
from danlu.core.artifact import Artifact, check_out, open_artifact, publish
from danlu.core.errors import BadSettings
from danlu.core.lineage import raw_input
from danlu.core.settings import Named, choice
from danlu.evaluate.haystack import Needle
from danlu.evaluate.how import How
from danlu.evaluate.tasks import TASKS
from danlu.stages import STAGES

_WIDE = 200
"""Columns of the table where no terminal sets a width: figures are never cut."""


class Evaluate(How):
    """Several models are compared on the same stretches of text or the same questions, so that a difference is not blurred by how
    hard these are."""

    positional = ("models",)

    models: list[Path] = Field(min_length=1)
    """Folders of the models."""
    text: list[Path] = Field([])
    """Text files to score, in any common encoding."""
    data: Path | None = None
    """Folder of labelled samples (`danlu prepare --form ...`) to judge fine-tuned models by, in place of texts."""
    split: Literal["validation", "train"] = "validation"
    """Which samples of --data; a set without held-out ones is taken whole."""
    tasks: list[Annotated[Named, choice(TASKS)]] = Field([])
    """Tasks to put to the models: names (danlu list tasks) or YAML files in lm-eval's form, commas or blanks between them."""
    task_data: Path | None = None
    """Folder that relative data_files of tasks lie in; left out: where the command runs, else beside the task's file."""
    weights: Literal["fp32", "auto", "bf16", "int8", "int4"] = "fp32"
    """How weights are held while tasks are asked, as in `danlu serve`: anything but fp32 changes figures a little."""
    rows: int = Field(16, ge=1, le=1024)
    """Questions that are computed at the same time: changes the speed only."""
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

    @field_validator("tasks", mode="before")
    @classmethod
    def _named(cls, told: Any) -> Any:
        if not isinstance(told, list):
            return told
        words = [word for one in told for word in (one.split(",") if isinstance(one, str) else [one]) if word]
        return [{"name": "yaml", "path": str(one)} if isinstance(one, str) and one.endswith((".yaml", ".yml")) else one
                for one in words]  # fmt: skip


@STAGES.register
def evaluate(config: Evaluate) -> Artifact:
    """Score the texts with each model, print the table, write the report."""
    check_out(config.out, config.overwrite)
    if [bool(config.text), bool(config.tasks), config.data is not None, bool(config.needle.lengths)].count(True) != 1:
        raise BadSettings(
            "give one of --text FILE... to score texts, --tasks NAME... to ask questions, --data DATASET to judge answers by "
            "labels, --needle.lengths TOKENS... to hide facts in long texts."
        )
    if config.tasks:
        return put(config)
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

    if config.overlong == "skip":
        raise BadSettings("--overlong skip is for --tasks; with --data samples are refused (raise) or cut (truncate).")
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


def put(config: Evaluate) -> Artifact:
    """Put tasks to each model, print figures and comparisons, write the report."""
    from danlu.engine.folder import model_input
    from danlu.engine.heads import HeadedModel
    from danlu.engine.model import load
    from danlu.evaluate import standing
    from danlu.evaluate.subject import EXACT, Subject

    told = config.tasks
    if config.task_data:
        told = [
            one.model_copy(update={"folder": config.task_data}) if "folder" in type(one).model_fields else one for one in told
        ]
    tasks = [TASKS.build(one) for one in told]
    if len({task.name for task in tasks}) < len(tasks):
        raise BadSettings(f"--tasks: two of {', '.join(task.name for task in tasks)} are called alike. Give each its own name.")
    for task in tasks:
        if task.name == "code":
            task.run = programs_run(task.config.sandbox)
    how = How(**{name: getattr(config, name) for name in How.model_fields})
    serving = EXACT.model_copy(update={"weights": config.weights, "rows": config.rows})
    sources = dict.fromkeys(path for task in tasks for path in task.sources())
    results, kernels = [], {}
    for path, name in zip(config.models, names(config.models), strict=True):
        model = load(path)
        if isinstance(model, HeadedModel):
            raise BadSettings(f"{path} has a head for {model.task} and answers no questions: judge it with --data DATASET.")
        with Subject(model, serving) as subject:
            for task in tasks:
                found = task.ask(subject, how)
                found.model = name
                results.append(found)
            kernels[name] = subject.kernel
    results.sort(key=lambda result: [task.name for task in tasks].index(result.task))
    inputs = [*map(model_input, config.models), *(raw_input("task", path) for path in sources)]
    about = {"how": how.model_dump(mode="json"), "computed by": kernels}
    with publish(config.out, kind="report", stage="evaluate", settings=config, inputs=inputs,
                 overwrite=config.overwrite) as draft:  # fmt: skip
        draft.metrics = standing.write(draft.path, results, about)
    show(standing.COLUMNS, standing.rows(results), [])
    if len(config.models) > 1:
        compared = standing.pairs(results)
        show(standing.PAIR_COLUMNS, standing.pair_rows(compared), [])
    assert draft.result is not None
    return draft.result


def programs_run(form: Any) -> Any:
    """What runs the programs of task code: each with its test in a sandbox, told by what was wrong with it."""
    from danlu.train.sandbox import Program, open_sandbox

    sandbox = open_sandbox(form)

    def run(programs: list[tuple[str, str]]) -> list[str]:
        outcomes = sandbox.run_all([Program(text, (test,)) for text, test in programs])
        return ["" if one.ok else f"{one.reason}: {one.note}" for one in outcomes]

    return run


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
