"""What an objective is: a batch and a model in, a sum of losses out; the loop divides by the targets of the whole step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from danlu.core.settings import Named

NO_LABEL = -100
"""A target that asks for nothing."""


@dataclass
class Batch:
    """Rows of packed tokens, B rows of T."""

    ids: Tensor
    """(B, T) int64."""
    targets: Tensor
    """(B, T) int64, the token that should follow; -100 asks for nothing."""
    documents: Tensor | None = None
    """(B, T) int32, non-decreasing along a row: which document a token belongs to; None: each row is one document."""
    origin: Sequence[Any] = field(default_factory=tuple)
    """Where each row comes from, for messages about it."""

    @cached_property
    def target_count(self) -> int:
        """Tokens that ask for something."""
        return int((self.targets != NO_LABEL).sum())

    def to(self, device: torch.device) -> "Batch":
        """The same batch where the model computes; itself when it is there already."""
        if self.ids.device == device:
            return self
        documents = None if self.documents is None else self.documents.to(device)
        return Batch(self.ids.to(device), self.targets.to(device), documents, self.origin)


class Objective(ABC):
    """Base of the objectives; built by `OBJECTIVES.build(config)`."""

    Config: ClassVar[type[Named]]

    def __init__(self, config: Named):
        self.config: Any = config

    @abstractmethod
    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        """Sum over the batch's targets, a float32 scalar in nats, with a gradient where gradients are on."""
