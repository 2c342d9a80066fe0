"""How good word vectors are: do they order pairs of words by likeness as people do, and do they complete analogies?"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from danlu.core.errors import BadInput
from danlu.data.decode import Unreadable, decode
from danlu.data.word_vectors import WordVectors
from danlu.metrics.interval import Estimate, ratio
from danlu.metrics.spearman import estimate

_FEWEST = 3
"""Pairs below which a correlation says nothing."""


@dataclass(frozen=True)
class Score:
    """One file's result: what it is, over how many of the file's rows, and with which uncertainty."""

    file: str
    what: str
    known: int
    """Rows whose words all have vectors; the others are left out of the figure."""
    total: int
    estimate: Estimate | None
    """None where too few rows are known."""

    def figures(self) -> dict[str, Any]:
        """For a report."""
        found = vars(self.estimate) if self.estimate else {}
        return {"file": self.file, "what": self.what, "known": self.known, "total": self.total, **found}


def similarity(vectors: WordVectors, path: Path) -> Score:
    """Spearman's correlation of cosines with people's ratings over the pairs of a file."""
    pairs = list(read_pairs(path))
    known = [pair for pair in pairs if pair[0] in vectors.rows and pair[1] in vectors.rows]
    found = None
    if len(known) >= _FEWEST:
        found = estimate([vectors.similarity(first, second) for first, second, _ in known], [rating for _, _, rating in known])
    return Score(path.name, "Spearman's rank correlation", len(known), len(pairs), found)


def analogy(vectors: WordVectors, path: Path) -> list[Score]:
    """Share of questions answered right, of each section and of all: the nearest word to b - a + c (Mikolov et al. 2013,
    arXiv:1301.3781, section 4.1), the three themselves left out."""
    sections: dict[str, list[Sequence[str]]] = {}
    for section, question in read_questions(path):
        sections.setdefault(section, []).append(question)
    found, right = [], {}
    for section, questions in sections.items():
        known = [question for question in questions if all(word in vectors.rows for word in question)]
        rows = np.array([[vectors.rows[word] for word in question] for question in known], np.int64).reshape(-1, 4)
        right[section] = (vectors.answers(rows[:, :3]) == rows[:, 3]).astype(float)
        found.append(_share(f"{path.name}: {section}", right[section], len(questions)))
    everything = np.concatenate(list(right.values()))
    return [_share(path.name, everything, sum(score.total for score in found)), *found]


def _share(name: str, right: np.ndarray, total: int) -> Score:
    known = len(right)
    return Score(name, "analogies right", known, total, ratio(right, np.ones(known)) if known >= _FEWEST else None)


def read_pairs(path: Path) -> Iterator[tuple[str, str, float]]:
    """Two words and a rating a line, parted by tabs, commas or spaces. Raises BadInput naming the line."""
    for number, line in _lines(path, "similarity"):
        mark = "\t" if "\t" in line else "," if "," in line else None
        parts = [part.strip().lower() for part in line.split(mark)]
        if len(parts) != 3 or not re.fullmatch(r"-?\d+(\.\d*)?", parts[2]) or not all(parts):
            raise BadInput(f"--similarity {path}, line {number}: expected two words and a rating, found {line!r}.")
        yield parts[0], parts[1], float(parts[2])


def read_questions(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Four words a line, with `: name` lines before each section. Raises BadInput naming the line."""
    section = "all"
    for number, line in _lines(path, "analogy"):
        if line.startswith(":"):
            section = line[1:].strip()
            continue
        parts = tuple(line.lower().split())
        if len(parts) != 4:
            raise BadInput(f"--analogy {path}, line {number}: expected four words or `: section`, found {line!r}.")
        yield section, parts


def _lines(path: Path, setting: str) -> Iterator[tuple[int, str]]:
    try:
        text = decode(path.read_bytes())
    except (OSError, Unreadable) as error:
        raise BadInput(f"--{setting} {path}: {getattr(error, 'strerror', None) or error}. Give a readable text file.") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise BadInput(f"--{setting} {path} is empty. Give a file with words in it, or leave it out.")
    yield from lines
