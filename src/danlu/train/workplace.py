"""The work folder of a run: one process at a time, one set of settings, and what was decided, on disk.

OUT.run/{run.json, plan.json, horizon.json, guard.json, events.jsonl, tokens/, tokenizer/, checkpoints/}
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from danlu.core import files
from danlu.core.errors import (
    BadInput,
    BadSettings,
    DatasetTooSmall,
    OutOfMemory,
    PreflightFailed,
    TokenizerMismatch,
    UnsupportedModel,
    VocabularyTooLarge,
    WorkFolderMismatch,
)

_OF_ONE_RUN = ("run.json", "plan.json", "horizon.json", "guard.json", "events.jsonl", "tokenizer", "checkpoints", "profile",
               "tensorboard", "reference.safetensors", "rollouts")  # fmt: skip


_REFUSALS = (
    BadInput, BadSettings, DatasetTooSmall, OutOfMemory, PreflightFailed, TokenizerMismatch, UnsupportedModel, VocabularyTooLarge,
)  # fmt: skip


class Workplace:
    """The state of a run between its attempts."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raise WorkFolderMismatch when another process trains here."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.writing(self.folder), open(self.folder / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkFolderMismatch(
                    f"{self.folder} is in use by another process. Wait for it or end it, or choose another --out."
                ) from None
            yield

    def begin(self, identity: Mapping[str, Any], overwrite: bool) -> None:
        """Make sure that what lies here belongs to this run: its settings and inputs that shape the result.

        Raises WorkFolderMismatch listing every difference; with `overwrite` the old state goes instead, and so does that
        of a finished run.
        """
        place = self.folder / "run.json"
        identity = json.loads(json.dumps(dict(identity), default=str))
        before = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None
        if before is not None:
            wrong = list(differences(before["identity"], identity))
            if wrong and not overwrite:
                raise WorkFolderMismatch(
                    "\n  ".join([
                        f"{self.folder} holds an unfinished run with other settings:", *wrong,
                        "Repeat the settings to go on, say --overwrite to drop that run, or choose another --out.",
                    ])
                )  # fmt: skip
            if overwrite and (wrong or before["finished"]):
                self.clear()
        files.write_text(place, json.dumps({"identity": identity, "finished": False}, indent=1) + "\n")

    def finish(self) -> None:
        """Note that the artefact is published."""
        place = self.folder / "run.json"
        record = json.loads(place.read_text(encoding="utf-8"))
        files.write_text(place, json.dumps({**record, "finished": True}, indent=1) + "\n")

    @contextmanager
    def forgotten_if_refused(self) -> Iterator[None]:
        """Where the settings themselves cannot work and nothing is learned yet, other settings may be tried at once."""
        try:
            yield
        except _REFUSALS:
            if not any((self.folder / "checkpoints").glob("step-*")):
                self.clear()
            raise

    def clear(self) -> None:
        """Forget a run; tokens stay, they are known by what they were made from."""
        for name in _OF_ONE_RUN:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Every setting that differs, in words.

    >>> list(differences({"seed": 0, "guard": {"window": 128}}, {"seed": 1, "guard": {"window": 128}}))
    ['seed: 0 there, 1 now']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name}: {before} there, {now} now"
