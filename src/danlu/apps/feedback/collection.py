"""Pairs of answers and what people said of them, in a folder: every record is on disk before anybody is told that it counts.

    collection.json    what the pairs were made from, and the settings that judging goes by
    pairs.jsonl        a prompt and two answers, one a line
    judgements.jsonl   one line for each judgement, and for each that was taken back

Files only grow, one line at a time, under a lock and synced; a line that a crash cut is dropped. So several programs (a terminal,
a server with many annotators) may write to one folder, and `kill -9` loses nothing that was acknowledged.
"""

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from danlu.core import files
from danlu.core.errors import BadInput, DamagedArtifact, NotAnArtifact, WorkFolderMismatch
from danlu.core.seeds import derive

Choice = Literal["first", "second", "tie", "bad", "skip"]
"""The first answer shown is better, or the second; both as good, both bad; no judgement."""
CHOICES = get_args(Choice)
NAME = "collection.json"
MOST_REASON = 2000
"""Characters of a reason."""
_ANNOTATOR = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,64}")


@dataclass(frozen=True)
class Answer:
    """What a model wrote."""

    text: str
    model: str
    seed: int
    ended: bool = True
    """Whether the model ended it, not the room it had."""
    thought: str = ""
    """What it thought before."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    id: str
    prompt: Sequence[Mapping[str, Any]]
    answers: tuple[Answer, Answer]
    path: str
    line: int
    """Where the prompt stands."""

    @property
    def same(self) -> bool:
        """Whether there is nothing to choose."""
        return self.answers[0].text == self.answers[1].text


@dataclass(frozen=True)
class Judgement:
    """What somebody said of a pair."""

    pair: str
    annotator: str
    choice: Choice
    order: tuple[int, int]
    """Which answers of the pair were shown first and second."""
    reason: str = ""
    seconds: float | None = None
    """Time from the showing to the choice."""
    time: float = 0.0

    @property
    def winner(self) -> int | None:
        """The better answer of the pair, 0 or 1, in the pair's own order; None where neither is."""
        return {"first": self.order[0], "second": self.order[1]}.get(self.choice)

    @property
    def vote(self) -> str | None:
        """What was said, whatever the order: 0, 1, tie, bad; None for no judgement."""
        return str(self.winner) if self.winner is not None else None if self.choice == "skip" else self.choice


@dataclass(frozen=True)
class Question:
    """A pair as an annotator sees it: who wrote which is not in it."""

    pair: Pair
    order: tuple[int, int]

    @property
    def texts(self) -> tuple[str, str]:
        """The answers as they are shown."""
        first, second = self.order
        return self.pair.answers[first].text, self.pair.answers[second].text


class Collection:
    """Opens a folder. Raises NotAnArtifact where it holds none, DamagedArtifact where a file cannot be read."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not (folder / NAME).is_file():
            raise NotAnArtifact(
                f"{folder} holds no answers to judge ({NAME} is missing). Make some with danlu feedback MODEL [MODEL_B] PROMPTS "
                f"-o OUT --prepare; the folder is OUT.run then."
            )
        self.made_from: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        self._pairs_file, self._judgements_file = _Journal(folder / "pairs.jsonl"), _Journal(folder / "judgements.jsonl")
        self._pairs: dict[str, Pair] = {}
        self._judged: dict[tuple[str, str], Judgement] = {}
        self._lock = threading.RLock()

    @classmethod
    def begin(cls, folder: Path, made_from: Mapping[str, Any]) -> "Collection":
        """Open a folder, or begin one. Raises WorkFolderMismatch where it was begun with other models, prompts or settings."""
        made_from = json.loads(json.dumps(dict(made_from), default=str))
        if not (folder / NAME).is_file():
            files.write_text(folder / NAME, json.dumps(made_from, ensure_ascii=False, indent=1) + "\n")
        found = cls(folder)
        wrong = [
            f"{name}: {found.made_from.get(name)} there, {made_from.get(name)} now"
            for name in {**found.made_from, **made_from}
            if found.made_from.get(name) != made_from.get(name)
        ]
        if wrong:
            raise WorkFolderMismatch("\n  ".join([
                f"{folder} holds answers that were made otherwise:", *wrong,
                "Repeat the settings to go on, or choose another --out.",
            ]))  # fmt: skip
        return found

    # ---- what is there

    @property
    def seed(self) -> int:
        return int(self.made_from.get("seed", 0))

    @property
    def overlap(self) -> float:
        """Share of the pairs that every annotator gets."""
        return float(self.made_from.get("overlap", 0.0))

    def pairs(self) -> list[Pair]:
        """All pairs, in order."""
        self._refresh()
        return list(self._pairs.values())

    def judgements(self) -> list[Judgement]:
        """What holds: the last word of each annotator on each pair, the latest last."""
        self._refresh()
        return list(self._judged.values())

    def judgement(self, pair: str, annotator: str) -> Judgement | None:
        """What an annotator said of a pair."""
        self._refresh()
        return self._judged.get((pair, annotator))

    def shared(self, pair: str) -> bool:
        """Whether every annotator gets it."""
        return derive(self.seed, "shared", pair) / 2**63 < self.overlap

    def order(self, pair: str, annotator: str) -> tuple[int, int]:
        """Which answer an annotator sees first: a coin thrown for each pair and annotator."""
        return (0, 1) if derive(self.seed, "order", pair, annotator) & 1 else (1, 0)

    def next(self, annotator: str, held: Container[str] = ()) -> Question | None:
        """What an annotator judges next; None: nothing is left. held: pairs that others are looking at."""
        self._refresh()
        others = {pair for (pair, name), one in self._judged.items() if name != annotator and one.choice != "skip"}
        for pair in self._pairs.values():
            if pair.same or (pair.id, annotator) in self._judged:
                continue
            if self.shared(pair.id) or (pair.id not in others and pair.id not in held):
                return self.question(pair.id, annotator)
        return None

    def question(self, pair: str, annotator: str) -> Question:
        """A pair as an annotator sees it. Raises BadInput for one that is not there."""
        self._refresh()
        if pair not in self._pairs:
            raise BadInput(f"there is no pair {pair!r} among the {len(self._pairs)} of {self.folder.name}.")
        return Question(self._pairs[pair], self.order(pair, annotator))

    def progress(self, annotator: str) -> dict[str, int]:
        """Counts: pairs, judged by anybody, judged by this one."""
        self._refresh()
        return {"pairs": sum(not pair.same for pair in self._pairs.values()), "judged": len({pair for pair, _ in self._judged}),
                "yours": sum(name == annotator for _, name in self._judged)}  # fmt: skip

    # ---- what is added

    def add(self, pair: Pair) -> None:
        """Keep a pair. Returns once it is on disk."""
        self._pairs_file.append(asdict(pair))

    def judge(self, pair: str, annotator: str, choice: str, reason: str = "", seconds: float | None = None) -> Judgement:
        """Keep a judgement; a second one of the same annotator takes the place of the first. Returns once it is on disk.

        Raises BadInput for a choice, name, reason or pair that is none.
        """
        check_annotator(annotator)
        if choice not in CHOICES:
            raise BadInput(f"{choice!r} is no choice; these are: {', '.join(CHOICES)}.")
        if len(reason) > MOST_REASON:
            raise BadInput(f"the reason has {len(reason)} characters; at most {MOST_REASON} are kept.")
        question = self.question(pair, annotator)
        found = Judgement(pair, annotator, choice, question.order, reason.strip(),  # type: ignore[arg-type]  # it is a choice
                          None if seconds is None else round(max(float(seconds), 0.0), 2), round(time.time(), 3))  # fmt: skip
        self._judgements_file.append({"judged": asdict(found)})
        return found

    def undo(self, annotator: str) -> Question | None:
        """Take back the last judgement of an annotator; what is to be judged again, or None where there is nothing."""
        mine = [one for one in self.judgements() if one.annotator == annotator]
        if not mine:
            return None
        last = mine[-1]
        self._judgements_file.append({"undone": {"pair": last.pair, "annotator": annotator, "time": round(time.time(), 3)}})
        return self.question(last.pair, annotator)

    def _refresh(self) -> None:
        """Take in what was written since, by whomever."""
        with self._lock:
            for record in self._pairs_file.fresh():
                answers = tuple(Answer(**answer) for answer in record["answers"])
                pair = Pair(**{**record, "answers": answers})
                self._pairs.setdefault(pair.id, pair)
            for record in self._judgements_file.fresh():
                if undone := record.get("undone"):
                    self._judged.pop((undone["pair"], undone["annotator"]), None)
                else:
                    one = Judgement(**{**record["judged"], "order": tuple(record["judged"]["order"])})
                    self._judged.pop((one.pair, one.annotator), None)  # the last word stands last
                    self._judged[one.pair, one.annotator] = one


def check_annotator(name: str) -> None:
    """Raise BadInput for a name that is empty, too long or no line of text."""
    if not _ANNOTATOR.fullmatch(name) or name != name.strip():
        raise BadInput("an annotator's name is 1 to 64 characters in one line, without blanks around it.")


class _Journal:
    """A file of JSON lines that only grows."""

    def __init__(self, path: Path):
        self.path = path
        self._read = 0

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a line and wait until it is on disk; half a line that a crash left is dropped first."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        new = not self.path.exists()
        with files.writing(self.path), open(self.path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(_whole(file))
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if new:
            files.sync_folder(self.path.parent)

    def fresh(self) -> list[dict[str, Any]]:
        """Whole lines that were not read yet. Raises DamagedArtifact."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            file.seek(self._read)
            lines = file.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        try:
            found = [json.loads(line) for line in lines.split(b"\n")[:-1]]
        except ValueError as error:
            raise DamagedArtifact(f"{self.path} cannot be read: {error}. Restore it, or take the damaged line out.") from None
        self._read += len(lines)
        return found


def _whole(file: Any) -> int:
    """Bytes up to the last line break."""
    end = file.seek(0, os.SEEK_END)
    at = end
    while at:
        start = max(at - 4096, 0)
        file.seek(start)
        if (found := file.read(at - start).rfind(b"\n")) >= 0:
            return int(start + found + 1)
        at = start
    return 0
