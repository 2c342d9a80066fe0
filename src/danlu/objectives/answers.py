"""What objectives over conversations share: messages become tokens, and what the assistant said becomes targets.

The model keeps the head that predicts words. Tokens and targets come from the chat template alone (tokenizer/turns.py), so
training reads what serving will send. T tokens of a sample.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import BadInput
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Labelled, Overlong, TooLong, Useless
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import Taught, lessons, taught

Array = NDArray[Any]
Messages = list[dict[str, Any]]


class Answers(Labelled):
    """Base of the objectives over conversations; the tokenizer must have a chat template."""

    kind = "CausalLM"
    unit = "token"
    task = None
    splits: ClassVar[bool] = False

    def __init__(self, config: Named, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        if tokenizer is not None and not tokenizer.chat_template:
            raise BadInput("the model has no chat template, and conversations are written by one. Say --template chatml, or give "
                           "a file of one.")  # fmt: skip

    def conversation(self, messages: Messages, tools: Messages | None, first: int, document: Document) -> tuple[Array, Array]:
        """Ids and targets, (T,) each: asked for are the tokens that assistant messages from number `first` on consist of.

        Raises BadInput for a conversation that the template refuses or in which nothing is asked for, and for one that cannot
        stand in one sequence.
        """
        return self._asked(taught, messages, tools, first, document)[0]

    def lessons(self, messages: Messages, tools: Messages | None, first: int, document: Document) -> list[tuple[Array, Array]]:
        """`conversation` in as few sequences as hold every turn just as it is served."""
        return self._asked(lessons, messages, tools, first, document)

    def _asked(
        self, teach: Callable[..., Any], messages: Messages, tools: Messages | None, first: int, document: Document
    ) -> list[tuple[Array, Array]]:
        assert self.tokenizer is not None
        try:
            found = teach(self.tokenizer, self.tokenizer.chat_template, messages, tools, first)
        except BadInput as error:
            raise BadInput(f"{place_of(document)}: {error.args[0]}") from None
        return [_pairs(one) for one in (found if isinstance(found, list) else [found])]


def _pairs(found: Taught) -> tuple[Array, Array]:
    """Each token but the last, and what it is asked for."""
    ids = np.array(found.ids, np.int64)
    return ids[:-1], np.where(np.array(found.mask, bool)[1:], ids[1:], NO_LABEL)


def whole(ids: Array, targets: Array, frame: Frame, overlong: Overlong) -> Encoded:
    """One text that fits the frame, its end cut off where that was asked for. Raises TooLong, or Useless where all that would be
    learned lies behind the cut."""
    cut = len(ids) > frame.most
    if cut and overlong != "truncate":
        raise TooLong(len(ids) + 1)
    ids, targets = ids[: frame.most], targets[: frame.most]
    if not (targets != NO_LABEL).any():
        raise Useless("prompt_too_long")
    return Encoded(ids, targets, np.zeros(len(ids), np.float32), np.zeros(len(ids), np.int32), cut)


def messages_of(document: Document, column: str) -> Messages:
    """The messages in a column of a sample."""
    found: Messages = json.loads(document.sample[column])
    return found


def tools_of(document: Document) -> Messages | None:
    """The functions that a conversation offers; None: none."""
    found: Sequence[Mapping[str, Any]] = json.loads(document.sample.get("tools") or "[]")
    return [dict(one) for one in found] or None


def place_of(document: Document) -> str:
    """Where a sample stands, for messages."""
    return f"{document.path}:{document.line} (document {document.id})"
