"""Raw text to a dataset: read, clean, judge, remove copies, hold out a part, and account for every character."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from danlu.core import files, process
from danlu.core.artifact import Artifact, check_out, publish, work_folder
from danlu.core.log import say
from danlu.core.settings import Named, choice
from danlu.data.engines import ENGINES
from danlu.data.ledger import Ledger
from danlu.data.steps import Steps
from danlu.stages import STAGES


class Prepare(Steps):
    """Files, folders, globs or addresses (https://, s3://, hf://) become a dataset with a ledger, a data card and a report."""

    positional = ("sources",)

    sources: list[str] = Field(min_length=1)
    """What to read; `name=path` gives a source a name."""
    out: Path
    """Folder of the dataset."""
    overwrite: bool = False
    """Replace an existing output."""
    licences: list[str] = Field([])
    """Licences of sources as SOURCE:LICENCE; a record's own `licence` field goes first, and without either it is unknown."""
    holdout: float = Field(0.01, ge=0, lt=1)
    """Share of documents kept for validation; of a document above 65536 characters, the share of it, from its end."""
    seed: int = 0
    """Chooses the documents to hold out."""
    engine: Annotated[Named, choice(ENGINES)] = Field({"name": "processes"})
    """Who does the work; every engine gives the same bytes."""


@STAGES.register
def prepare(config: Prepare) -> Artifact:
    """Write a dataset."""
    from danlu.data import card, pipeline, provenance
    from danlu.data.lean import lean

    if process.ours:
        lean()
    check_out(config.out, config.overwrite)
    work = work_folder(config.out)
    found, passed, licences = pipeline.find(config.sources, config.licences, config, work)
    with publish(config.out, kind="dataset", stage="prepare", settings=config, overwrite=config.overwrite) as draft:
        engine = ENGINES.build(config.engine)
        done = pipeline.prepare(draft.path, engine, config, found, passed, licences, work, config.holdout, config.seed)
        draft.ledger = done.ledger.as_dict()
        draft.seeds = {"seed": config.seed}
        draft.sources = sorted(done.ledger.sources)
        draft.licences = sorted(done.statistics.licences)
        draft.inputs = provenance.inputs(done.shards)
        draft.metrics = card.metrics(done)
        files.write_text(draft.path / "ledger.json", json.dumps(draft.ledger, ensure_ascii=False, indent=1) + "\n")
        provenance.write(draft.path, done.shards)
        card.write(draft.path, config, done)
    say(summary(done.ledger))
    assert draft.result is not None
    return draft.result


def summary(ledger: Ledger) -> str:
    """What stayed, and what took most of the rest."""
    total = ledger.total()
    (kept, characters, _), (validation, held_out, _) = ledger.get("train"), ledger.get("validation")
    came = ledger.get("read")[0] + ledger.get("split")[0]
    said = (f"{kept:,} of {came:,} documents to train on ({characters:,} characters), "
            f"{validation:,} to validate on ({held_out:,} characters)")  # fmt: skip
    gone = {row: amounts[0] for row, amounts in total.items() if row.startswith("dropped") or row.endswith("copies")}
    worst = max(gone, key=lambda row: gone[row], default=None)
    return f"{said}; most that went: {worst} ({gone[worst]:,})" if worst and gone[worst] else said
