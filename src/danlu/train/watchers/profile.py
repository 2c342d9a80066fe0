"""Writes a trace of a few steps for chrome://tracing or Perfetto, with a table of the costliest operations."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from danlu.core import files, log
from danlu.core.settings import Named
from danlu.train.watchers import WATCHERS
from danlu.train.watchers.base import StepFacts, Watcher

if TYPE_CHECKING:
    from danlu.train.loop import Run


@WATCHERS.register
class Profile(Watcher):
    """torch.profiler around some steps of the first process; files in OUT.run/profile/."""

    class Config(Named):
        """Which steps."""

        name: Literal["profile"] = "profile"
        after: int = Field(10, ge=0)
        """Steps of this attempt before the trace begins."""
        steps: int = Field(3, ge=1)
        """Steps in the trace."""

    def start(self, run: "Run") -> None:
        self.begin = run.step + self.config.after
        self.profiler: Any = None

    def after_step(self, run: "Run", facts: StepFacts) -> None:
        if not run.world.first or run.folder is None:
            return
        if self.profiler and facts.step >= self.begin + self.config.steps:
            self._write(run)
        elif facts.step == self.begin:
            from torch.profiler import profile

            self.profiler = profile()
            self.profiler.__enter__()

    def finish(self, run: "Run") -> None:
        if self.profiler:
            self._write(run)

    def _write(self, run: "Run") -> None:
        self.profiler.__exit__(None, None, None)
        assert run.folder is not None
        folder = run.folder / "profile"
        folder.mkdir(parents=True, exist_ok=True)
        self.profiler.export_chrome_trace(str(folder / "trace.json"))
        files.write_text(
            folder / "operations.txt", self.profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=40)
        )
        log.say(f"trace of {self.config.steps} steps: {folder}")
        self.profiler = None
