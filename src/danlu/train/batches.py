"""Which rows a step trains on: step s takes the rows [s * R, (s + 1) * R) of the run, however many processes share them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from danlu.core.errors import BadSettings, DatasetTooSmall
from danlu.core.seeds import derive
from danlu.data.pack import Packer
from danlu.objectives.base import Batch, Objective


@dataclass(frozen=True)
class Batches:
    """The micro-batches of one process.

    rows: R, of a whole step over all processes. micro_rows: most rows at once in one process, by memory.
    """

    packer: Packer
    objective: Objective
    rows: int
    micro_rows: int
    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        step_tokens = self.rows * self.packer.row_tokens
        if self.packer.pairs_per_epoch < step_tokens:
            raise DatasetTooSmall(
                f"the dataset gives {self.packer.pairs_per_epoch} training tokens, and one step takes {step_tokens} "
                f"({self.rows} rows of {self.packer.row_tokens}). Add text, or set fewer --batch_rows or shorter --row_tokens."
            )
        if self.rows < self.size:
            raise BadSettings(
                f"a step has {self.rows} rows, and {self.size} processes share it: some would have none. "
                f"Use at most {self.rows} processes, or set --batch_rows {self.size} or more."
            )

    @property
    def micro_batches(self) -> int:
        """Micro-batches a step, the same in every process."""
        share = -(-self.rows // self.size)
        return min(-(-share // self.micro_rows), self.rows // self.size)

    def step(self, step: int) -> list[Batch]:
        """This process's share of a step, in order."""
        return [self.batch(part) for part in self.numbers(step)]

    def batch(self, numbers: np.ndarray) -> Batch:
        """The rows with these numbers, as the objective wants them: a pure function of the seed and the numbers."""
        rows = [self.packer.served(int(number)) for number in numbers]
        return self.objective.batch(rows, [derive(self.packer.seed, "row", int(number)) for number in numbers])

    def numbers(self, step: int) -> Iterator[np.ndarray]:
        """Row numbers of each micro-batch."""
        mine = np.array_split(np.arange(step * self.rows, (step + 1) * self.rows), self.size)[self.rank]
        yield from np.array_split(mine, self.micro_batches)
