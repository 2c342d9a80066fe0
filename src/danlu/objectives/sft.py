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
from danlu.objectives.labelled import Encoded, Overlong


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
        found = self.lessons(messages, tools, first, document)
        if overlong != "split" or all(len(ids) <= frame.most for ids, _ in found):
            return [whole(ids, targets, frame, overlong) for ids, targets in found]
        return list(self._parts(messages, tools, first, document, frame))

    def _parts(
        self, messages: Messages, tools: Messages | None, first: int, document: Document, frame: Frame
    ) -> Iterator[Encoded]:
        """A long conversation in stretches of whole exchanges, each behind the system's message; every answer is in one.

        Raises TooLong where one exchange alone does not fit.
        """
        system = [one for one in messages[:1] if one["role"] in ("system", "developer")]
        exchanges = _exchanges(messages[len(system) :])
        begin = len(system)  # place of the stretch's first message in the conversation
        while exchanges:
            held = max(1, self._fitting(system, exchanges, tools, first - begin, document, frame))
            part = [*system, *(one for exchange in exchanges[:held] for one in exchange)]
            learned = max(first - begin + len(system), 0)
            if _says(part[learned:]):
                for ids, targets in self.lessons(part, tools, learned, document):
                    yield whole(ids, targets, frame, "split")
            begin += sum(map(len, exchanges[:held]))
            exchanges = exchanges[held:]

    def _fitting(
        self, system: Messages, exchanges: list[Messages], tools: Messages | None, first: int, document: Document, frame: Frame
    ) -> int:
        """How many exchanges fit together, from the first on. first: number of the first message behind `system` to learn."""
        part = list(system)
        for held, exchange in enumerate(exchanges):
            part += exchange
            learned = max(first + len(system), 0)
            if _says(part[learned:]) and any(len(ids) > frame.most for ids, _ in self.lessons(part, tools, learned, document)):
                return held
        return len(exchanges)

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        return loss


def _says(messages: Messages) -> bool:
    """Whether there is anything of an assistant's to learn."""
    return any(one["role"] == "assistant" and one.get("weight", 1) != 0 for one in messages)


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
