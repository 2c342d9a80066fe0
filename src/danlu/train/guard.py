"""The guard: a step whose loss or gradient left the numbers, or jumped far beyond the last ones, does not reach the weights.

The rule of the jump is that of OLMo's skip-step optimiser: beyond k standard deviations of the last n values. A gradient norm
must besides be a multiple of their mean: in a calm stretch norms deviate so little that harmless steps were left out. And it
is remembered although its step is left out: that repairs no weight, so norms that stay high, as when a masked model leaves the
plateau of word frequencies, would else be sick for ever.
Which document was to blame is found in culprit.py.
"""

import json
import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from danlu.core import files
from danlu.core.errors import NotFinite
from danlu.core.settings import Settings


class GuardSettings(Settings):
    """When a step counts as sick, and what happens then."""

    action: Literal["skip", "rollback", "stop", "off"] = "skip"
    """skip: leave out the step's update; rollback: return to the last checkpoint and leave out every step since; stop: end
    with an error; off: train on whatever happens."""
    deviations: float = Field(6.0, gt=0)
    """A loss or gradient norm this many standard deviations above the mean of the last steps is a spike."""
    times: float = Field(2.0, ge=1)
    """A gradient norm must also be this many times its mean: a calm stretch must not make an ordinary step a spike."""
    window: int = Field(128, ge=8)
    """Steps that the mean and deviation are taken over; the guard watches for spikes once half of them are there."""
    patience: int = Field(10, ge=1)
    """Sick steps in a row after which the run stops with an error: then the fault is not in the data."""


class Guard:
    """Remembers the last steps and judges the next; its memory travels in checkpoints so that verdicts repeat exactly."""

    def __init__(self, config: GuardSettings, path: Path | None = None, writes: bool = True):
        self.config, self.path, self.writes = config, path, writes
        self.losses: deque[float] = deque(maxlen=config.window)
        self.norms: deque[float] = deque(maxlen=config.window)
        self.sick_in_a_row = 0
        self.left_out: set[int] = set(json.loads(path.read_text()) if path and path.is_file() else ())
        """Steps that a rollback decided to leave out, kept on disk because the decision outlives the process."""

    def judge(self, loss: float, grad_norm: float) -> str | None:
        """Why a step is sick, in words; None for a sound step. Sound losses and all finite norms are remembered."""
        if self.config.action == "off":
            return None
        for name, value, past in (("loss", loss, self.losses), ("gradient norm", grad_norm, self.norms)):
            reason = self._reason(name, value, past)
            if reason:
                self.sick_in_a_row += 1
                if past is self.norms and math.isfinite(value):
                    self.norms.append(value)
                return reason
        self.losses.append(loss)
        self.norms.append(grad_norm)
        self.sick_in_a_row = 0
        return None

    def _reason(self, name: str, value: float, past: deque[float]) -> str | None:
        if not math.isfinite(value):
            return f"{name} is {value}"
        if len(past) < self.config.window // 2:
            return None
        mean, deviation = statistics.fmean(past), statistics.pstdev(past)
        least = self.config.times if past is self.norms else 1.0
        limit = max(mean + self.config.deviations * max(deviation, 1e-3 * abs(mean)), least * mean)  # a flat past has ripples
        return f"{name} {value:.4g} is above {limit:.4g} (mean {mean:.4g} of the last {len(past)})" if value > limit else None

    def check_patience(self, reason: str, culprit: str) -> None:
        """Raise NotFinite when the settings say to stop, or when step after step is sick."""
        if self.config.action == "stop":
            raise NotFinite(
                f"{reason}; the text to look at is {culprit}. Correct or remove it, or let the run leave such steps out with "
                f"--guard.action skip. The last checkpoint is sound: the same command goes on from there."
            )
        if self.sick_in_a_row >= self.config.patience:
            raise NotFinite(
                f"{self.sick_in_a_row} sick steps in a row, the last because {reason} ({culprit}). This is no single bad text: "
                f"lower the learning rate, or use --dtype float32. The last checkpoint is sound."
            )

    def leave_out(self, steps: range) -> None:
        """Decide for good that these steps are not trained on."""
        self.left_out |= set(steps)
        if self.path and self.writes:
            files.write_text(self.path, json.dumps(sorted(self.left_out)) + "\n")

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"losses": list(self.losses), "norms": list(self.norms), "sick_in_a_row": self.sick_in_a_row}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the memory of a checkpoint."""
        self.losses = deque(state["losses"], self.config.window)
        self.norms = deque(state["norms"], self.config.window)
        self.sick_in_a_row = state["sick_in_a_row"]
