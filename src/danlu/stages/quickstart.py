"""From nothing to a model that answers, with text that every machine with Python already has."""

import io
import pydoc
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from danlu.core import files, log
from danlu.core.artifact import Artifact, open_artifact, publish
from danlu.core.errors import BadInput, OutputExists
from danlu.core.settings import Settings, load
from danlu.core.units import Budget
from danlu.stages import STAGES, settings_of

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data",
             "__pycache__"}  # fmt: skip
_LICENCE = "PSF-2.0"
PROMPTS = ("def read_lines(path):\n", "import os\n\nclass ", "The for statement is used to ")
"""What the finished model is asked to complete."""


class Quickstart(Settings):
    """Takes the standard library's sources and documentation, and makes a data set, a tokenizer and a language model from
    them, evaluates it and writes an illustrated report. An interrupted quickstart goes on where it was."""

    out: Path = Path("quickstart")
    """Folder for everything that is made."""
    budget: Budget = "3m"  # type: ignore[assignment]  # defaults are validated
    """Training to spend: a time, tokens or FLOPs. The other steps take about a minute more."""
    seed: int = 0
    """Seed of every random choice."""


@STAGES.register
def quickstart(config: Quickstart) -> Artifact:
    """Run the whole life of a small model; returns the report."""
    out = config.out
    log.say(f"1/5 corpus: Python's own sources and documentation -> {out / 'corpus'}")
    write_corpus(out / "corpus")
    log.say(f"2/5 data set -> {out / 'data'}")
    sources = [f"code={out / 'corpus' / 'code'}", f"docs={out / 'corpus' / 'docs'}"]
    data = make("prepare", out / "data", sources=sources, licences=[f"code:{_LICENCE}", f"docs:{_LICENCE}"], seed=config.seed)
    log.say(f"3/5 model, {config.budget} of training -> {out / 'model'}")
    model = make("pretrain", out / "model", dataset=data.path, budget=config.budget, seed=config.seed)
    log.say(f"4/5 evaluation on held-out text -> {out / 'evaluation'}")
    heldout = write_heldout(data.path, out / "corpus" / "heldout.txt")
    evaluation = make("evaluate", out / "evaluation", models=[model.path], text=[heldout])
    log.say(f"5/5 report -> {out / 'report'}")
    report = write_report(config, [data, model, evaluation])
    log.say(farewell(out, model))
    return report


def make(stage: str, out: Path, **settings: Any) -> Artifact:
    """The artefact of a stage, made unless it is there already with the same settings.

    Raises OutputExists when something else lies at `out`.
    """
    config = load(settings_of(stage), {**settings, "out": out}, f"quickstart: {stage}")
    if not out.exists():
        result: Artifact = STAGES[stage](config)
        return result
    there = open_artifact(out)
    if there.lineage.settings == config.model_dump(mode="json"):
        log.say(f"    already made: {there.kind} {there.id}")
        return there
    raise OutputExists(f"{out} was made with other settings. Remove it, or choose another --out.")


def write_corpus(folder: Path) -> None:
    """Copy the standard library's own modules and render the manual's topics; whole or not at all."""
    if folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with files.writing(folder):
            _fill(aside)
            files.sync_tree(aside)
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(folder: Path) -> None:
    (folder / "docs").mkdir(parents=True)
    root = Path(sysconfig.get_path("stdlib"))
    for source, name in _modules(root):
        target = folder / "code" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    if not (folder / "code").exists():
        raise BadInput(
            f"no Python sources at {root}: this Python was installed without them. "
            f"Use text of your own: danlu prepare YOUR_FOLDER -o data && danlu pretrain data -o model"
        )
    for name, text in _documentation():
        (folder / "docs" / f"{name}.md").write_text(text, encoding="utf-8")


def _modules(root: Path) -> Iterator[tuple[Path, Path]]:
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if not _LEFT_OUT & set(name.parts):
            yield path, name


def _documentation() -> Iterator[tuple[str, str]]:
    """The manual's topics that `help()` shows, and the documentation of modules written in C: no source file holds these."""
    from pydoc_data.topics import topics

    for name, text in sorted(topics.items()):
        yield f"topic-{name.replace('/', '-')}", text
    for name in sorted(set(sys.builtin_module_names) & set(sys.stdlib_module_names)):
        if not name.startswith("_"):
            shown = io.StringIO()
            pydoc.Helper(output=shown).help(name)
            text = pydoc.plain(shown.getvalue())
            if len(text) > 500:
                yield f"module-{name}", text


def write_heldout(dataset: Path, path: Path) -> Path:
    """The data set's held-out documents as one text file for the evaluation."""
    from danlu.data.shards import read_texts

    files.write_text(path, "\n\n".join(read_texts(dataset, "validation")))
    return path


def write_report(config: Quickstart, made: list[Artifact]) -> Artifact:
    """One page with the whole story: data, model, curves, samples, completions, lineage."""
    from danlu.core.artifact import work_folder
    from danlu.core.page import Page
    from danlu.core.page import write_report as write
    from danlu.engine.model import load as load_model
    from danlu.train import report

    data, model, evaluation = made
    page = Page("Danlu quickstart", f"{model.path}: a language model from the Python standard library")
    events = report.by_kind(work_folder(model.path))
    figures = report.headline(events)
    page.facts(report.facts(figures))
    report.add_plan(page, events["plan"])
    report.add_curves(page, events)
    page.heading("What it completes now")
    engine = load_model(model.path)
    answers = {prompt: engine.generate(prompt, max_tokens=80, temperature=0.6, seed=config.seed) for prompt in PROMPTS}
    for prompt, answer in answers.items():
        page.code(prompt + answer)
    report.add_samples(page, events["sample"])
    page.heading("Data ledger")
    report.add_ledger(page, data.lineage.ledger)
    page.heading("Token ledger")
    report.add_ledger(page, model.lineage.ledger)
    page.heading("Lineage")
    page.table(
        ["kind", "id", "made by", "path"], [(step.kind, step.id, f"danlu {step.lineage.stage}", step.path) for step in made]
    )
    page.heading("Go on")
    page.code(farewell(config.out, model))
    out = config.out / "report"
    with publish(out, kind="report", stage="quickstart", settings=config, overwrite=True,
                 inputs=[step.as_input(step.kind) for step in made]) as draft:  # fmt: skip
        draft.metrics = {**figures, "completions": answers, "evaluation": evaluation.lineage.metrics}
        draft.seeds = {"seed": config.seed}
        write(draft.path, page, draft.metrics)
    assert draft.result is not None
    return draft.result


def farewell(out: Path, model: Artifact) -> str:
    """What to try now."""
    path = model.path
    return "\n".join([
        f"Your model is ready: {path}",
        f"  complete code   danlu generate {path} 'def read_lines(path):' --max_tokens 80",
        f"  chat            danlu chat {path}",
        f"  serve           danlu serve {path}      (OpenAI's API, and a page in the browser)",
        f"  inspect         danlu inspect {path}",
        f"  report          {out / 'report' / 'report.html'}",
        f"  for others      danlu export {path} -o {out / 'hf'} --to hf",
    ])  # fmt: skip
