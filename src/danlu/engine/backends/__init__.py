"""Engines behind three methods, so that evaluations and applications can ask any: ours, a URL, transformers, vLLM."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from danlu.core.registry import Registry
from danlu.engine.request import Sampling

BACKENDS: Registry[Any] = Registry("backend", __name__)

Prompt = str | Sequence[Mapping[str, Any]]
"""A text to go on with, or the messages of a conversation."""


@dataclass(frozen=True)
class Answer:
    """What was written."""

    text: str
    reason: Literal["stop", "length"]
    """stop: the model or a stop text ended it. length: max_tokens or the context did."""
    prompt_tokens: int
    tokens: int
    """Of the answer, the one that ended it included."""


class Backend(Protocol):
    """What stands on the shelf, built from its Config."""

    def write(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        """An answer to each prompt. Same prompt, settings and seed: same answer, whatever else is asked."""
        ...

    def score(self, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """For each pair the log-probabilities, in nats, of the tokens of the second text, which stands right behind the first.

        A token that begins in the first text and ends in the second counts. For an encoder-decoder the first text is what it
        reads. Raises BadInput where either is empty.
        """
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length one, float32 (texts, D). Raises BadInput for a model that makes none."""
        ...

    def close(self) -> None:
        """Give back what it holds; it cannot be asked again."""
        ...
