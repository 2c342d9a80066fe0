"""Show what an artefact is: card, sizes, ledger, figures, settings, and where it came from, back to the raw files."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from danlu.core import lineage
from danlu.core.artifact import Artifact, open_artifact, work_folder
from danlu.core.errors import BadSettings
from danlu.core.settings import Settings
from danlu.stages import STAGES


class Inspect(Settings):
    """Also shows the progress of a run that is not finished yet: give its output folder or the `.run` folder beside it."""

    positional = ("artefact",)

    artefact: Path
    """Folder of an artefact, or of a run."""
    verify: bool = False
    """Rehash every file, here and in everything it was made from."""
    why: str | None = None
    """For a dataset: tell what became of the document with this id or path, and why."""


@STAGES.register
def inspect(config: Inspect) -> None:
    """Print everything about one artefact on stdout."""
    from danlu.stages.inspection import show, show_run

    path = config.artefact
    run = path if path.name.endswith(".run") else work_folder(path)
    if not (path / lineage.NAME).is_file() and (run / "events.jsonl").is_file():
        show_run(run)
        return
    artefact = open_artifact(path)
    if config.why is not None:
        tell_why(artefact, config.why)
        return
    show(artefact)
    if config.verify:
        verify(artefact)


def tell_why(artefact: Artifact, wanted: str) -> None:
    """What became of a document of a dataset. Raises BadSettings for other artefacts."""
    if artefact.kind != "dataset":
        raise BadSettings(f"--why asks about documents, but {artefact.path} is a {artefact.kind}. Give the dataset's folder.")
    from danlu.data.why import why

    print(why(artefact.path, wanted))


def verify(artefact: Artifact) -> None:
    """Rehash the artefact, its ancestors and their raw files. Raises DamagedArtifact listing everything that differs."""
    from danlu.data import provenance

    for _, source, record in lineage.trace(artefact.path):
        place = artefact.path if source is None else Path(source.path)
        if record is not None:
            lineage.verify(place, record)
            print(f"verified {record.kind} {record.id}: {len(record.outputs)} files")
            if any(one.files for one in record.inputs):
                tell_raw(provenance.check(place, record.inputs))
        elif source is not None and not source.files:  # of several files the dataset's own list has told
            print(raw_state(source))


def tell_raw(states: Iterable[tuple[str, Path, str]], most: int = 10) -> None:
    """How many raw files of each source are as they were, and the first that are not."""
    counts: dict[str, Counter[str]] = {}
    for source, path, state in states:
        seen = counts.setdefault(source, Counter())
        seen[state] += 1
        if state != "verified" and seen[state] <= most:
            print(f"{state:8} {path}")
    for source, seen in counts.items():
        print(f"raw files of {source}: " + ", ".join(f"{number:,} {state}" for state, number in seen.items()))


def raw_state(source: Any) -> str:
    """Whether a raw input is still the file that went in."""
    place = Path(source.path)
    if not source.id.startswith("sha256:") or not place.is_file():
        return f"not here   {source.role} {source.id}: {source.path}"
    same = lineage.raw_input(source.role, place).id == source.id
    return f"{'verified' if same else 'CHANGED '}   {source.role}: {source.path}"
