"""One shard after another in this process: the oracle that the other engines must equal, and the debugger's friend."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from danlu.core.settings import Named
from danlu.data.engines import ENGINES
from danlu.data.measure import Measurer
from danlu.data.plan import Shard
from danlu.data.steps import Steps


@ENGINES.register
class Sequential:
    """No other process, no other library."""

    class Config(Named):
        name: Literal["sequential"] = "sequential"

    def __init__(self, config: Any):
        self.config = config

    def measure(self, steps: Steps, work: Iterable[tuple[Shard, Path]]) -> Iterator[Shard]:
        """Measure every shard into its file; yields each as it is done."""
        measurer = Measurer(steps)
        for shard, path in work:
            measurer.measure(shard, path)
            yield shard
