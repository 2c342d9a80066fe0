"""Complete a text, answer it, or fill its gaps: what the model writes goes to stdout, and nothing else does."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from danlu.core.errors import BadInput, BadSettings
from danlu.engine.request import Sampling
from danlu.stages import STAGES


class Generate(Sampling):
    """The same model, prompt, settings and seed give the same answer, streamed or not. A masked model fills each `<|mask|>` of
    the prompt with the likeliest token, and takes no settings of an answer. An encoder-decoder reads the prompt as its source."""

    positional = ("model", "prompt")

    model: Path
    """Folder of the model."""
    prompt: str
    """Text to go on from, to answer, or with gaps to fill; `-` reads it from stdin."""
    suffix: str | None = None
    """Text that follows: the model writes what stands between the prompt and it (a model trained with --objective.name fim)."""
    chat: bool = False
    """Take the prompt as what a user says: the model answers in the form of its chat template."""
    window: int | None = Field(None, ge=1)
    """Remember only this many of the latest tokens, and the first `sinks`: texts of any length in constant memory, for
    rotary decoders. Left out: everything, and prompt and answer must fit the model's context."""
    sinks: int = Field(4, ge=0)
    """First tokens that a window does not drop; without them a model that learned without a window breaks."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.window is not None and self.suffix is not None:
            raise ValueError("a window forgets the suffix: give --window or --suffix, not both")
        if self.chat and (self.window is not None or self.suffix is not None):
            raise ValueError("a chat is answered in turns: leave --window and --suffix out, or --chat")
        if self.window is None and "sinks" in self.model_fields_set:
            raise ValueError("sinks stay beside a window: give --window too")
        return self


@STAGES.register
def generate(config: Generate) -> None:
    """Write the continuation of a prompt on stdout, piece by piece, and a line break at its end."""
    from danlu.engine.model import load
    from danlu.models.base import MaskedLM

    prompt = sys.stdin.read() if config.prompt == "-" else config.prompt
    if "\x00" in prompt:
        raise BadInput("the prompt holds a NUL character, so it is no text. Give a text file or a quoted text.")
    model = load(config.model)
    if isinstance(model.model, MaskedLM):
        print(filled(model, prompt, config))
        return
    for piece in answer(model, prompt, config):
        print(piece, end="", flush=True)
    print(flush=True)


def answer(model: Any, prompt: str, config: Generate) -> Iterable[str]:
    """What the model writes, piece by piece."""
    from danlu.engine.converse import reply
    from danlu.engine.endless import write_endless

    if config.chat:
        return reply(model, [{"role": "user", "content": prompt}], config)
    if config.window is not None:
        return write_endless(model, prompt, config, config.window, config.sinks)
    if config.suffix is not None:
        return model.write_between(prompt, config.suffix, config)
    return model.write(prompt, config)


def filled(model: Any, prompt: str, config: Generate) -> str:
    """The prompt without gaps. Raises BadSettings for settings that only an answer has."""
    if beside := sorted(config.model_fields_set - {"model", "prompt"}):
        raise BadSettings(
            f"{config.model} is a masked model: it fills gaps with the likeliest tokens, and {', '.join(beside)} would change "
            f"nothing. Leave such settings out."
        )
    text: str = model.fill(prompt).text
    return text
