"""Words as vectors, on disk and in use: which words are near a word, and what completes a : b = c : ?

On disk: `vectors.safetensors` with one tensor `vectors` (V, D) float32, and `vocabulary.tsv`, a line a row: word, tab, count.
V words, D dimensions.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from danlu.core.errors import BadInput, DamagedArtifact, NotAnArtifact
from danlu.core.files import write_text, writing

Array = NDArray[np.float32]
_TENSORS, _WORDS = "vectors.safetensors", "vocabulary.tsv"
_QUESTIONS = 256


class WordVectors:
    """The words, most frequent first, and their vectors."""

    def __init__(self, words: Sequence[str], counts: Sequence[int], vectors: Array):
        self.words, self.counts = list(words), list(counts)
        self.vectors: Array = np.asarray(vectors, np.float32)
        self.rows = {word: row for row, word in enumerate(self.words)}

    @classmethod
    def open(cls, folder: Path | str) -> "WordVectors":
        """Raises NotAnArtifact where there are none, DamagedArtifact where the files do not fit each other."""
        folder = Path(folder)
        if not (folder / _TENSORS).is_file():
            raise NotAnArtifact(f"{folder} holds no {_TENSORS}. Give a folder that `danlu vectors` wrote.")
        try:
            lines = (folder / _WORDS).read_text(encoding="utf-8").splitlines()
            rows = [line.split("\t") for line in lines]
            found = cls([row[0] for row in rows], [int(row[1]) for row in rows], load_file(folder / _TENSORS)["vectors"])
        except (OSError, ValueError, IndexError, KeyError, SafetensorError) as error:
            raise DamagedArtifact(f"{folder} cannot be read: {error}. Make it again, or restore the files.") from None
        if len(found.words) != len(found.vectors):
            raise DamagedArtifact(f"{folder}: {len(found.words)} words and {len(found.vectors)} vectors. Make it again.")
        return found

    def save(self, folder: Path) -> None:
        """Write both files."""
        with writing(folder / _TENSORS):
            save_file({"vectors": np.ascontiguousarray(self.vectors)}, folder / _TENSORS)
        lines = (f"{word}\t{count}\n" for word, count in zip(self.words, self.counts, strict=True))
        write_text(folder / _WORDS, "".join(lines))

    @cached_property
    def directions(self) -> Array:
        """Vectors of length one; a vector of nothing stays nothing."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        found: Array = (self.vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        return found

    def similarity(self, first: str, second: str) -> float:
        """Cosine of two known words."""
        return float(self.directions[self._row(first)] @ self.directions[self._row(second)])

    def nearest(self, word: str, most: int = 10) -> list[tuple[str, float]]:
        """The words of the highest cosine, and it. Raises BadInput for a word that has no vector."""
        row = self._row(word)
        return self._best(self.directions[row], {row}, most)

    def analogy(self, first: str, second: str, third: str, most: int = 1) -> list[tuple[str, float]]:
        """What relates to `third` as `second` to `first`: the words nearest to second - first + third, none of the three."""
        rows = [self._row(word) for word in (first, second, third)]
        return self._best(self._wanted(np.array([rows]))[0], set(rows), most)

    def answers(self, questions: NDArray[Any]) -> NDArray[Any]:
        """Row of the best answer to each question, (Q, 3) rows to (Q,)."""
        found = []
        for start in range(0, len(questions), _QUESTIONS):
            part = questions[start : start + _QUESTIONS]
            score = self._wanted(part) @ self.directions.T
            np.put_along_axis(score, part, -np.inf, axis=1)
            found.append(score.argmax(1))
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _wanted(self, questions: NDArray[Any]) -> Array:
        first, second, third = (self.directions[questions[:, column]] for column in range(3))
        wanted: Array = second - first + third
        return wanted

    def _best(self, direction: Array, but: set[int], most: int) -> list[tuple[str, float]]:
        score = self.directions @ direction
        order = np.argsort(-score, kind="stable")[: most + len(but)]
        return [(self.words[row], float(score[row])) for row in order if row not in but][:most]

    def _row(self, word: str) -> int:
        if word not in self.rows:
            raise BadInput(f"{word!r} has no vector: it is rare or absent in the text. Known: {', '.join(self.words[:8])}, ...")
        return self.rows[word]
