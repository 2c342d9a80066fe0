"""How tasks are put to a model: settings that the command line and the tasks share."""

from typing import Literal

from pydantic import Field

from danlu.core.settings import Settings


class How(Settings):
    """How tasks are put to a model."""

    chat: bool = False
    """Ask through the chat template: shots become turns, and the answer is what the assistant says."""
    shots: int | None = Field(None, ge=0)
    """Examples with their answers before each question; left out, what the task says."""
    limit: int | None = Field(None, ge=1)
    """Ask no more than the first so many documents of each task."""
    overlong: Literal["raise", "truncate", "skip"] = "raise"
    """Questions that do not fit the context: stop with an error, cut their beginning, or leave them out; each is counted."""
    begin: Literal["auto", "yes", "no"] = "auto"
    """Whether the token that begins a document stands before a text; auto: where the tokenizer itself puts one, as transformers
    and lm-eval do. Models made here have seen one before every document."""
    seed: int = 1234
    """Of drawn examples and drawn answers. lm-eval draws its examples with 1234."""
