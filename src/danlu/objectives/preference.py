"""What objectives over answers that people judged share: log-probabilities of whole answers, and how a batch counts them.

A pair is one sample: prompt and chosen answer, then prompt and rejected answer, as two documents that do not see one another.
Asked for are the answers' tokens, the end of the turn included; beside them stand the reference model's log-probabilities
(train/reference.py). A loss is the mean over pairs however they are spread over micro-batches. The prompt is computed twice: to
share it, rows would need another mask than that of documents. B rows, T tokens, M texts, P pairs.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.data.pack import Row
from danlu.data.shards import Document
from danlu.objectives.answers import Answers, messages_of, tools_of, whole
from danlu.objectives.base import Batch
from danlu.objectives.contrast import joined
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, LabelledBatch, Overlong, Useless


@dataclass
class PairedBatch(LabelledBatch):
    """A batch whose samples consist of two texts each, and count once."""

    @cached_property
    def target_count(self) -> int:
        """Samples; a text that stands alone, as where a culprit is looked for, counts as one."""
        _, texts = text_numbers(self)
        return texts if self.documents is None else texts // 2


@dataclass(frozen=True)
class Said:
    """What a model gives to texts, (M,) each."""

    logp: Tensor
    """Sum of the log-probabilities of the answer's tokens, in nats."""
    reference: Tensor
    """The same of the reference model; 0 where there is none."""
    tokens: Tensor
    """Tokens of the answer."""
    divergence: Tensor
    """Estimate of KL(reference || model) from these tokens, summed over the answer (k3 of Schulman 2020); no gradient."""

    def every(self, which: slice) -> "Said":
        """Some of the texts."""
        return Said(self.logp[which], self.reference[which], self.tokens[which], self.divergence[which])

    @property
    def ratio(self) -> Tensor:
        """How much likelier than to the reference model the answers are, in nats."""
        return self.logp - self.reference

    @property
    def mean(self) -> Tensor:
        """Log-probability of a token on average."""
        return self.logp / self.tokens


class Judged(Answers):
    """Base of what learns from answers that were judged."""

    unit = "pair"
    stage = "align"
    pace = 0.1

    reference: ClassVar[bool] = False
    """Whether it needs the log-probabilities of the model that it must not leave too far behind."""

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        return PairedBatch(**vars(super().batch(rows, seeds)))


class Preference(Judged):
    """Base of what learns from pairs of answers: a loss and two rewards for each pair."""

    columns = (("prompt", "chosen", "rejected"),)

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        """Raises TooLong, BadInput, and Useless for a pair of equal answers."""
        prompt, tools = messages_of(document, "prompt"), tools_of(document)
        sides = []
        for column in ("chosen", "rejected"):
            ids, targets = self.conversation([*prompt, *messages_of(document, column)], tools, len(prompt), document)
            sides.append(whole(ids, targets, frame, overlong))
        if same(*sides):
            raise Useless("equal_answers")
        return [joined(sides)]

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        found = said(model, batch)
        if batch.documents is None:  # a text without its partner: how strange it is to the model
            return -found.mean.sum()
        chosen, rejected = found.every(slice(0, None, 2)), found.every(slice(1, None, 2))
        losses = self.losses(chosen, rejected)
        if not torch.is_grad_enabled():
            self._figures = pair_figures(chosen, rejected, *self.rewards(chosen, rejected), reference=self.reference)
        return losses.sum()

    @abstractmethod
    def losses(self, chosen: Said, rejected: Said) -> Tensor:
        """The loss of each pair, (P,)."""

    @abstractmethod
    def rewards(self, chosen: Said, rejected: Said) -> tuple[Tensor, Tensor]:
        """What the model itself is taken to think of the answers, (P,) each."""


def text_numbers(batch: Batch) -> tuple[Tensor, int]:
    """For each place that asks for something the number of its text, in row order from 0; and how many texts there are."""
    rows_BT = torch.arange(len(batch.ids), device=batch.ids.device)[:, None].expand_as(batch.ids)
    if batch.documents is not None:
        rows_BT = rows_BT * (int(batch.documents.max()) + 1) + batch.documents
    found, number_N = torch.unique(rows_BT[batch.targets != NO_LABEL], return_inverse=True)
    return number_N, len(found)


def said(model: Any, batch: Batch) -> Said:
    """What the model gives to every text of a batch, in row order."""
    asked_BT, (number_N, count) = batch.targets != NO_LABEL, text_numbers(batch)
    hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
    logp_N = model.token_logprobs(hidden_BTD[asked_BT], batch.targets[asked_BT])
    reference_N = batch.values[asked_BT]  # type: ignore[attr-defined]  # a LabelledBatch
    apart_N = (logp_N - reference_N).detach()

    def total(part_N: Tensor) -> Tensor:
        return part_N.new_zeros(count).index_add(0, number_N, part_N)

    return Said(total(logp_N), total(reference_N), total(torch.ones_like(logp_N)), total(apart_N.expm1() - apart_N))


def pair_figures(chosen: Said, rejected: Said, up: Tensor, down: Tensor, *, reference: bool) -> dict[str, float]:
    """Sums over pairs: how often the chosen answer has the higher reward, by how much, and how long answers are.

    kl: nats a token by which the model has left the reference model on the answers given.
    """
    tokens = chosen.tokens + rejected.tokens
    found = {
        "accuracy": (up > down).sum(), "margin": (up - down).sum(), "chosen_reward": up.sum(), "rejected_reward": down.sum(),
        "chosen_logp": chosen.mean.sum(), "rejected_logp": rejected.mean.sum(),
        "chosen_tokens": chosen.tokens.sum(), "rejected_tokens": rejected.tokens.sum(),
    }  # fmt: skip
    if reference:
        found["kl"] = ((chosen.divergence + rejected.divergence) / tokens).sum()
    return {name: float(value) for name, value in found.items()}


def same(one: Encoded, other: Encoded) -> bool:
    """Whether two texts are the same tokens."""
    return len(one.ids) == len(other.ids) and bool((one.ids == other.ids).all() and (one.targets == other.targets).all())
