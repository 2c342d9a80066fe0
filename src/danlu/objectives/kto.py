"""Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8): answers judged alone, good or bad.

Each answer's gain is measured from a point of reference: how far the model has left the reference model on answers that do not
belong to their prompts (the KL term). Such an answer stands behind every sample: that of the nearest sample before it whose
prompt is another, the same in every epoch, so that the reference model needs to score it once. It is read without gradients. TRL
takes it from the same step instead; the expectation is the same. The term is the mean over a whole step, over all processes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor

from danlu.core import log
from danlu.core.errors import BadInput
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.answers import messages_of, place_of, tools_of, whole
from danlu.objectives.base import Batch
from danlu.objectives.contrast import joined
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Overlong
from danlu.objectives.preference import Judged, PairedBatch, said

_LABELS = {"true": 1.0, "false": 0.0}


@OBJECTIVES.register
class Kto(Judged):
    """Good answers become likelier and bad ones unlikelier, measured from the reference model. A step is computed at once."""

    columns = (("prompt", "completion", "label"),)
    unit = "answer"
    reference = True
    whole_step = True

    class Config(Named):
        name: Literal["kto"] = "kto"  # type: ignore[assignment]  # narrows
        beta: float = Field(0.1, gt=0)
        """Pull towards the reference model; larger stays closer."""
        good: float = Field(1.0, ge=0)
        """Weight of good answers. Weight times number should be about equal for both kinds."""
        bad: float = Field(1.0, ge=0)
        """Weight of bad answers."""

    _most = 0

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        """The label stands beside the first token, at which nothing is asked."""
        prompt, label = messages_of(document, "prompt"), str(document.sample["label"]).strip().lower()
        if label not in _LABELS:
            raise BadInput(f"{place_of(document)}: label {label!r} is neither true nor false.")
        messages = [*prompt, *messages_of(document, "completion")]
        found = whole(*self.conversation(messages, tools_of(document), len(prompt), document), frame, overlong)
        if found.targets[0] != NO_LABEL:
            raise BadInput(f"{place_of(document)}: the prompt is a single token, so there is no answer to it. Give prompts.")
        found.values[0], self._most = _LABELS[label], frame.most
        return [found]

    def complete(self, encoded: Sequence[Encoded]) -> list[Encoded]:
        """Behind each sample its prompt with another sample's answer."""
        parts = [_apart(one) for one in encoded]
        good = sum(one.values[0] for one in encoded)
        _advise(good * self.config.good, (len(encoded) - good) * self.config.bad)
        return [joined([one, _mixed(parts[at], parts[_stranger(parts, at, self._most)])]) for at, one in enumerate(encoded)]

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        if batch.documents is None:  # a text alone: how strange it is to the model
            return -said(model, batch).mean.sum()
        own, strange = (side(batch, parity) for parity in (0, 1))
        with torch.no_grad():
            kl = self._mean(said(model, strange).ratio).clamp(min=0)
        found, good_N = said(model, own), labels(own)
        if not torch.is_grad_enabled():
            self._figures = self._told(found.ratio, good_N, kl, found.tokens)
        losses_N = kto_losses(found.ratio, good_N, kl, self.config.beta, self.config.good, self.config.bad)
        return losses_N.sum()

    def _mean(self, ratio_N: Tensor) -> Tensor:
        """Over the samples of a step in all processes."""
        total = torch.stack([ratio_N.sum(), ratio_N.new_tensor(float(len(ratio_N)))])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        return total[0] / total[1]

    def _told(self, ratio_N: Tensor, good_N: Tensor, kl: Tensor, tokens_N: Tensor) -> dict[str, float]:
        """Sums over answers. accuracy: good ones above the point of reference, bad ones below. margin: of the two kinds' mean
        rewards, counted for each answer."""
        reward_N = self.config.beta * ratio_N
        sides = [reward_N[good_N], reward_N[~good_N]]
        up, down = (part.mean() if len(part) else reward_N.new_zeros(()) for part in sides)
        found = {
            "accuracy": ((ratio_N > kl) == good_N).sum(), "margin": (up - down) * len(reward_N), "kl": kl * len(reward_N),
            "good_reward": up * len(reward_N), "bad_reward": down * len(reward_N), "answer_tokens": tokens_N.sum(),
        }  # fmt: skip
        return {name: float(value) for name, value in found.items()}


def kto_losses(ratio_N: Tensor, good_N: Tensor, kl: Tensor, beta: float, good: float = 1.0, bad: float = 1.0) -> Tensor:
    """weight (1 - sigmoid(beta (ratio - kl))) of good answers, weight (1 - sigmoid(beta (kl - ratio))) of bad ones.

    ratio_N: log-ratios of whole answers in nats; good_N: booleans; kl: the point of reference in nats, without a gradient.

    >>> kto_losses(torch.tensor([3.0, 3.0]), torch.tensor([True, False]), torch.tensor(1.0), beta=0.5, bad=2.0)
    tensor([0.2689, 1.4621])
    """
    sign_N = torch.where(good_N, 1.0, -1.0)
    return torch.where(good_N, good, bad) * torch.sigmoid(-beta * sign_N * (ratio_N - kl))


def side(batch: Batch, parity: int) -> PairedBatch:
    """The texts of even numbers of a batch, or those of odd ones, moved together at the beginning of their rows."""
    assert batch.documents is not None
    kept_BT = (batch.documents % 2 == parity) & asking(batch)
    order_BT = (~kept_BT).to(torch.int8).argsort(stable=True, dim=1)[:, : int(kept_BT.sum(1).max())]
    kept_BT = kept_BT.gather(1, order_BT)
    ids, targets, documents, values = (part.gather(1, order_BT) for part in (
        batch.ids, batch.targets, batch.documents, batch.values))  # type: ignore[attr-defined]  # a LabelledBatch  # fmt: skip
    return PairedBatch(
        ids=ids.masked_fill(~kept_BT, 0), targets=targets.masked_fill(~kept_BT, NO_LABEL),
        documents=documents.masked_fill(~kept_BT, int(batch.documents.max()) + 1), values=values, origin=batch.origin,
    )  # fmt: skip


def labels(batch: PairedBatch) -> Tensor:
    """Which texts are good ones, (M,) booleans: the number beside the first token of each."""
    assert batch.documents is not None and batch.values is not None
    first_BT = torch.ones_like(batch.documents, dtype=torch.bool)
    first_BT[:, 1:] = batch.documents[:, 1:] != batch.documents[:, :-1]
    return batch.values[first_BT & asking(batch)] > 0.5


def asking(batch: Batch) -> Tensor:
    """Places of the texts that ask for something, (B, T); filling asks for nothing."""
    assert batch.documents is not None
    text_BT = batch.documents.long()
    asked_BM = torch.zeros(len(text_BT), int(text_BT.max()) + 1, dtype=torch.long, device=text_BT.device)
    asked_BM.scatter_add_(1, text_BT, (batch.targets != NO_LABEL).long())
    return asked_BM.gather(1, text_BT) > 0


def _apart(one: Encoded) -> tuple[Encoded, Encoded]:
    """Prompt and answer; the last token of the prompt asks for the first of the answer and belongs to the former."""
    at = int((one.targets != NO_LABEL).argmax()) + 1
    parts = (slice(0, at), slice(at, None))
    prompt, answer = (replace(one, ids=one.ids[part], targets=one.targets[part], values=np.zeros_like(one.values[part]),
                              documents=one.documents[part]) for part in parts)  # fmt: skip
    return prompt, answer


def _stranger(parts: Sequence[tuple[Encoded, Encoded]], at: int, most: int) -> int:
    """The nearest sample before this one whose prompt is another and whose answer fits here; itself where there is none."""
    ids = parts[at][0].ids
    for back in range(1, len(parts)):
        prompt, answer = parts[at - back]
        if len(ids) + len(answer.ids) <= most and not np.array_equal(prompt.ids, ids):
            return at - back
    return at


def _mixed(own: tuple[Encoded, Encoded], other: tuple[Encoded, Encoded]) -> Encoded:
    """One's prompt and another's answer."""
    prompt, (_, answer), first = own[0], other, other[0].targets[-1]
    targets, ids = np.concatenate([prompt.targets, answer.targets]), np.concatenate([prompt.ids, answer.ids])
    targets[len(prompt.ids) - 1] = first
    return Encoded(ids, targets, np.zeros(len(ids), np.float32), np.zeros(len(ids), np.int32), answer.cut)


def _advise(good: float, bad: float) -> None:
    """Say so where one kind of answers drowns the other (equation 8 of the paper allows for 4/3 the one way)."""
    if not good or not bad:
        log.warn(f"all weighted answers are {'good' if good else 'bad'}: nothing tells the two kinds apart (a label is true or "
                 f"false)")  # fmt: skip
    elif not 0.5 < good / bad < 2:
        name, weight = ("bad", good / bad) if good > bad else ("good", bad / good)
        log.warn(f"{name} answers are {weight:.1f} times fewer by weight: --objective.{name} {weight:.2g} times what it is "
                 f"would even that out")  # fmt: skip
