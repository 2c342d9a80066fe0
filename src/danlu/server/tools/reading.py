"""What readers of calls share: a buffer read by one step after another, each of which takes what is certain or waits for more."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

from danlu.engine.stop import overlap
from danlu.server.tools import Arguments, Piece, Said
from danlu.server.tools.json_call import JsonCall

_BLANK = " \t\r\n"


class Steps(ABC):
    """A reader that is always in one step: a method that returns True after progress, False when it needs more text."""

    def __init__(self, names: Collection[str]):
        self.names = names
        self.buffer = ""
        self.pieces: list[Piece] = []
        self.step: Callable[[], bool] = self.begin
        self._kept: list[str] = []
        self._blanks: list[str] = []
        """Blanks at the end of the text so far: part of it unless a call follows."""

    @property
    def _raw(self) -> str:
        """Text of a call that may yet turn out to be none."""
        return "".join(self._kept)

    @_raw.setter
    def _raw(self, text: str) -> None:
        self._kept = [text] if text else []

    @abstractmethod
    def begin(self) -> bool:
        """The first step."""

    def push(self, text: str) -> list[Piece]:
        """See CallReader."""
        self.buffer += text
        while self.buffer and self.step():
            pass
        return self._taken()

    def finish(self) -> list[Piece]:
        """See CallReader: a call whose tool was not known yet is text after all."""
        self.say("".join([*self._blanks, *self._kept, self.buffer]))
        self._blanks, self._kept, self.buffer = [], [], ""
        return self._taken()

    def _taken(self) -> list[Piece]:
        made: list[Piece] = []
        for piece in self.pieces:
            last = made[-1] if made else None
            if isinstance(piece, Said | Arguments) and not piece.text:
                continue
            if isinstance(piece, Said) and isinstance(last, Said):
                made[-1] = Said(last.text + piece.text)
            elif isinstance(piece, Arguments) and isinstance(last, Arguments):
                made[-1] = Arguments(last.text + piece.text)
            else:
                made.append(piece)
        self.pieces = []
        return made

    def say(self, text: str) -> None:
        """Text for the reader."""
        if text:
            self.pieces.append(Said(text))

    def text_until(self, mark: str, then: Callable[[], bool]) -> bool:
        """A step: text up to a mark, blanks before it left out; the mark stays in `raw` until a call is known."""
        at = self.buffer.find(mark)
        size = at if at >= 0 else len(self.buffer) - overlap(self.buffer, mark)
        shown = self.buffer[:size].rstrip(_BLANK)
        if shown:
            self.say("".join([*self._blanks, shown]))
            self._blanks = []
        if len(shown) < size:
            self._blanks.append(self.buffer[len(shown) : size])
        self.buffer = self.buffer[size:]
        if at < 0:
            return False
        self._kept, self._blanks = [*self._blanks, mark], []
        self.buffer = self.buffer[len(mark) :]
        self.step = then
        return True

    def blanks(self) -> bool:
        """Move blanks from the buffer into `raw`; whether anything is left to look at."""
        rest = self.buffer.lstrip(_BLANK)
        self.keep(len(self.buffer) - len(rest))
        return bool(rest)

    def call(self, reading: JsonCall) -> bool:
        """Feed an object; True once it is over, one way or the other. What was certain is kept, refusals stay in `raw`."""
        pieces, size = reading.feed(self.buffer)
        self.pieces += pieces
        self.keep(size)
        if reading.state in ("called", "done", "broken"):
            self._kept = []
        return reading.over

    def keep(self, size: int) -> None:
        """Move characters into `raw`."""
        self._kept.append(self.buffer[:size])
        self.buffer = self.buffer[size:]

    def refuse(self, then: Callable[[], bool], marked: int) -> bool:
        """It was no call: its first `marked` characters are text, the rest is read again by another step."""
        raw, self._kept = self._raw, []
        self.say(raw[:marked])
        self.buffer = raw[marked:] + self.buffer
        self.step = then
        return True
