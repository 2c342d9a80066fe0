"""Daft spreads the shards: over the cores of this machine, or over a Ray cluster whose nodes share the file system.

The one module that imports daft. Its usage reports are switched off before the import.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from danlu.core.errors import MissingExtra
from danlu.core.settings import Named
from danlu.data.engines import ENGINES
from danlu.data.measure import Measurer
from danlu.data.plan import Shard, shard_as_dict, shard_from
from danlu.data.steps import Steps


@ENGINES.register
class Daft:
    """Shards are rows of a data frame, measuring one is a function on a row."""

    class Config(Named):
        name: Literal["daft"] = "daft"
        ray: str = ""
        """Address of a Ray cluster, as `auto` or ray://host:10001; left empty, Daft works on this machine alone."""
        workers: int = Field(0, ge=0)
        """Functions that run at a time on this machine; 0 takes one for each core."""

    def __init__(self, config: Any):
        self.config = config

    def measure(self, steps: Steps, work: Sequence[tuple[Shard, Path]]) -> Iterator[Shard]:
        """Measure every shard into its file; yields each when its partition is done."""
        daft = _daft()
        if self.config.ray:
            _join_ray(daft, self.config.ray)
        said = json.dumps(steps.model_dump(mode="json", include=set(Steps.model_fields)))

        @daft.cls(use_process=not self.config.ray, max_concurrency=self.config.workers or None)
        class Remote:
            def __init__(self) -> None:
                self.measurer = Measurer(Steps(**json.loads(said)))

            @daft.method(return_dtype=daft.DataType.int64())
            def measure(self, shard: str, path: str) -> int:
                asked = shard_from(json.loads(shard))
                self.measurer.measure(asked, Path(path))
                return asked.number

        frame = daft.from_pydict({
            "shard": [json.dumps(shard_as_dict(shard)) for shard, _ in work],
            "path": [str(path.resolve()) for _, path in work],
        })  # fmt: skip
        frame = frame.into_partitions(len(work)) if self.config.ray else frame.into_batches(1)
        remote = Remote()
        done = {shard.number: shard for shard, _ in work}
        for row in frame.select(remote.measure(frame["shard"], frame["path"]).alias("number")).iter_rows():
            yield done[row["number"]]


def _daft() -> Any:
    os.environ["DO_NOT_TRACK"] = "1"
    import daft

    return daft


def _join_ray(daft: Any, address: str) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("ray", "a Ray cluster") from None
    daft.set_runner_ray(address=None if address == "auto" else address)
