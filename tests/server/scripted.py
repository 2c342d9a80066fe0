"""A server whose model says what it is told to: every answer is a text of the test's choosing, through the whole engine."""

from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
from tests.server.running import serving

from danlu.engine.engine import Engine
from danlu.engine.scheduler import Limits
from danlu.engine.work import Piece, RowFault
from danlu.server.models import Models, Served
from danlu.server.service import Service


class Script:
    """A runner (engine/work.py) that wants each sequence to go on with the ids of a text, and then to end."""

    context, block_tokens, blocks, kernel, whole_prompts = 2048, 0, 0, "script, exact", False

    def __init__(self, vocab_size: int, end: int):
        self.vocab_size, self._end = vocab_size, end
        self.ids: list[int] = []
        self.prompts: list[list[int]] = []
        self.breaks_at: int | None = None
        """The token of an answer at which the runner fails."""
        self._begun: dict[int, int] = {}
        self._read: dict[int, list[int]] = {}

    def run(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        made = []
        for piece in pieces:
            read = self._read.setdefault(piece.row, [])
            del read[piece.start :]
            read += piece.ids.tolist()
            if piece.want and piece.row not in self._begun:
                self._begun[piece.row] = piece.start + len(piece.ids)
                self.prompts.append(list(read))
            logits = np.full((piece.want, self.vocab_size), -40.0, np.float32)  # at temperature 1 too, nothing else is drawn
            for number in range(piece.want):
                at = piece.start + len(piece.ids) - piece.want + number + 1 - self._begun[piece.row]
                if at == self.breaks_at:
                    raise RowFault(piece.row, "broken on purpose")
                logits[number, self.ids[at] if at < len(self.ids) else self._end] = 40.0
            made.append(logits)
        return made

    def rewind(self, row: int, length: int) -> bool:
        return True

    def forget(self, row: int) -> None:
        self._begun.pop(row, None)
        self._read.pop(row, None)


class Scripted:
    """A running server with its script."""

    def __init__(self, running, script, tokenizer):
        self.running, self._script, self.tokenizer = running, script, tokenizer
        self.url = running.url

    def says(self, text: str) -> None:
        """What every answer from now on is; names of special tokens are meant."""
        self._script.ids = self.tokenizer.encode(text, allow_special=self.tokenizer.special_tokens)

    @contextmanager
    def breaking(self, at: int):
        """Answers fail at this token."""
        self._script.breaks_at = at
        try:
            yield
        finally:
            self._script.breaks_at = None

    @property
    def prompt_ids(self) -> list[int]:
        """The ids of the prompt that was read last."""
        return self._script.prompts[-1]

    @property
    def prompt(self) -> str:
        """The prompt that was read last."""
        return self.tokenizer.decode(self.prompt_ids)


@contextmanager
def scripted(folder, template, **settings):
    """A server of one model, `m`; folder: of a small model with a tokenizer."""
    served = Served("m", folder, given_template=template)
    service = Service(Models([served]), **settings)
    service.models.open(_serving())
    tokenizer = served.tokenizer
    script = Script(tokenizer.vocab_size, tokenizer.eos_id)
    served.engine.close()
    served.engine = Engine(script, tokenizer.vocab_size, Limits(8, 256, 64)).start()
    with serving(service) as running:
        yield Scripted(running, script, tokenizer)


def _serving():
    from danlu.engine.opening import Serving

    return Serving(rows=8, cache_tokens=8192)
