"""Supervised fine-tuning on conversations (instruction tuning): the negative log-likelihood of what the assistant says.

Source: InstructGPT (Ouyang et al. 2022, arXiv:2203.02155), section 3.5. What users, systems and tools say is read and not
learned; the token that ends a turn is learned, or the model would not stop.
"""

from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor

from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.answers import Answers, Messages, messages_of, tools_of, whole
from danlu.objectives.base import Batch
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Overlong, TooLong


@OBJECTIVES.register
class Sft(Answers):
    """Answers as they were given."""

    columns = (("messages",),)
    splits = True

    class Config(Named):
        name: Literal["sft"] = "sft"  # type: ignore[assignment]  # narrows
        turns: Literal["all", "last"] = "all"
        """Which turns of the assistant are learned: all, or the last of each conversation."""

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        messages, tools = messages_of(document, "messages"), tools_of(document)
        first = _last(messages) if self.config.turns == "last" else 0
        ids, targets = self.conversation(messages, tools, first, document)
        if overlong != "split" or len(ids) <= frame.most:
            return [whole(ids, targets, frame, overlong)]
        return list(self._parts(messages, tools, first, document, frame))

    def _parts(
        self, messages: Messages, tools: Messages | None, first: int, document: Document, frame: Frame
    ) -> Iterator[Encoded]:
        """A long conversation in stretches of whole exchanges, each behind the system's message; every answer is in one.

        Raises TooLong where one exchange alone does not fit.
        """
        system = [one for one in messages[:1] if one["role"] in ("system", "developer")]
        exchanges = _exchanges(messages[len(system) :])
        at, before = 0, len(system)
        while at < len(exchanges):
            fitting, found = at, None
            while fitting < len(exchanges):
                part = [*system, *(one for exchange in exchanges[at : fitting + 1] for one in exchange)]
                learned = max(first - before + len(system), 0)
                if not any(one["role"] == "assistant" for one in part[learned:]):
                    fitting += 1
                    continue
                ids, targets = self.conversation(part, tools, learned, document)
                if len(ids) > frame.most:
                    if found is None:
                        raise TooLong(len(ids) + 1)
                    break
                found = whole(ids, targets, frame, "split")
                fitting += 1
            before += sum(map(len, exchanges[at:fitting]))
            at = fitting
            if found is not None:
                yield found

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        return loss


def _last(messages: Messages) -> int:
    """Place of the last assistant's message."""
    return max((at for at, one in enumerate(messages) if one["role"] == "assistant"), default=len(messages))


def _exchanges(messages: Messages) -> list[Messages]:
    """What a user says with all that follows before the user speaks again.

    >>> said = [{"role": role} for role in ("user", "assistant", "user", "assistant", "tool", "assistant")]
    >>> [len(one) for one in _exchanges(said)]
    [2, 4]
    """
    found: list[Messages] = []
    for one in messages:
        if one["role"] == "user" or not found:
            found.append([])
        found[-1].append(one)
    return found
