"""How many steps a run takes. Under a time budget the number is corrected at fixed points, each decision on disk before use.

A resumed run reads the decisions back, so what was decided stays exact. Only the number of steps changes: never the model,
the batch or the rates' peak.
"""

import json
from pathlib import Path
from typing import Any

from danlu.core import files, log
from danlu.core.units import duration

REVIEWS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
"""Fractions of the planned steps after which the pace is looked at again."""
_TOLERANCE = 0.02  # a smaller change is noise of the machine


class Horizon:
    """`steps` so far decided; `review` after every step."""

    def __init__(self, path: Path, steps: int, seconds: float | None = None):
        self.path, self.planned, self.seconds = path, steps, seconds
        self.decisions: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
        self._points = {max(int(steps * part), 1) for part in REVIEWS} if seconds else set()

    def spend(self, seconds: float) -> None:
        """Take what was spent before the first step from the budget."""
        self.seconds = max(self.seconds - seconds, 0.0) if self.seconds else None

    def steps(self, step: int) -> int:
        """Steps of the whole run as decided when `step` steps were done."""
        decided = [one["steps"] for one in self.decisions if one["at"] <= step]
        return decided[-1] if decided else self.planned

    def due(self, step: int) -> bool:
        """Is this a point of review that nobody has decided yet?"""
        return step in self._points and all(one["at"] != step for one in self.decisions)

    def review(self, step: int, spent_s: float, reserve_s: float) -> int:
        """Decide anew at a point of review: `spent_s` training so far, `reserve_s` for what follows the last step."""
        assert self.seconds is not None
        before = self.steps(step)
        left = max(self.seconds - spent_s - reserve_s, 0.0)
        steps = max(step + int(left / (spent_s / step)), step + 1)
        steps = before if abs(steps - before) <= _TOLERANCE * before else steps
        self.decide({"at": step, "steps": steps, "seconds": round(spent_s, 3)})
        if steps != before:
            log.say(
                f"pace at step {step}: {spent_s / step:.3g} s a step; {steps} steps fit {duration(self.seconds)} (were {before})"
            )
        return steps

    def decide(self, decision: dict[str, Any]) -> None:
        """Put a decision on disk, then let it count."""
        self.decisions.append(decision)
        files.write_text(self.path, json.dumps(self.decisions, indent=1) + "\n")
