"""Complete a text: the answer goes to stdout as it is written, and nothing else does."""

import sys
from pathlib import Path

from danlu.core.errors import BadInput
from danlu.engine.request import Sampling
from danlu.stages import STAGES


class Generate(Sampling):
    """The same model, prompt, settings and seed give the same answer, streamed or not."""

    positional = ("model", "prompt")

    model: Path
    """Folder of the model."""
    prompt: str
    """Text to go on from; `-` reads it from stdin."""


@STAGES.register
def generate(config: Generate) -> None:
    """Write the continuation of a prompt on stdout, piece by piece, and a line break at its end."""
    from danlu.engine.model import load

    prompt = sys.stdin.read() if config.prompt == "-" else config.prompt
    if "\x00" in prompt:
        raise BadInput("the prompt holds a NUL character, so it is no text. Give a text file or a quoted text.")
    for piece in load(config.model).write(prompt, config):
        print(piece, end="", flush=True)
    print(flush=True)
