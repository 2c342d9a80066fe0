"""Stop texts that may straddle tokens: text is held back only as long as it could still become a stop text."""

from collections.abc import Sequence


class StopWatch:
    """Push text as it comes; what comes out is safe to show. `found` is the stop text once one has appeared."""

    def __init__(self, stops: Sequence[str]):
        self.stops = [stop for stop in stops if stop]
        self.found: str | None = None
        self._held = ""

    def push(self, text: str) -> str:
        """The part of all text so far that can be shown now. Nothing follows once a stop text was found.

        >>> watch = StopWatch(["END"])
        >>> watch.push("the E"), watch.push("N"), watch.push("D of it"), watch.found
        ('the ', '', '', 'END')
        """
        if self.found is not None:
            return ""
        self._held += text
        hits = [(self._held.find(stop), stop) for stop in self.stops if stop in self._held]
        if hits:
            at, self.found = min(hits)
            shown, self._held = self._held[:at], ""
            return shown
        keep = max((overlap(self._held, stop) for stop in self.stops), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown

    def flush(self) -> str:
        """What was held back, once no more text comes."""
        rest, self._held = self._held, ""
        return rest


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-size:])), 0)
