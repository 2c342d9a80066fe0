"""What objectives over conversations share: messages become tokens, and what the assistant said becomes targets.

The model keeps the head that predicts words. Tokens and targets come from the chat template alone (tokenizer/turns.py), so
training reads what serving will send. T tokens of a sample.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from danlu.core.errors import BadInput
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Labelled, Overlong, TooLong
from danlu.tokenizer.tokenizer import Tokenizer

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

        Raises BadInput for a conversation that the template refuses or in which nothing is asked for.
        """
        from danlu.tokenizer.turns import taught

        assert self.tokenizer is not None
        template = self.tokenizer.chat_template
        assert template is not None
        try:
            found = taught(self.tokenizer, template, messages, tools, first)
        except BadInput as error:
            raise BadInput(f"{place_of(document)}: {error.args[0]}") from None
        ids = np.array(found.ids, np.int64)
        targets = np.where(np.array(found.mask, bool)[1:], ids[1:], NO_LABEL)
        if not (targets != NO_LABEL).any():
            raise BadInput(
                f"{place_of(document)}: no token of this conversation would be learned: it has no message of an assistant"
                f"{'' if not first else ' behind its prompt'}. Leave it out of the data."
            )
        return ids[:-1], targets


def whole(ids: Array, targets: Array, frame: Frame, overlong: Overlong) -> Encoded:
    """One text that fits the frame, its end cut off where that was asked for. Raises TooLong."""
    cut = len(ids) > frame.most
    if cut and overlong != "truncate":
        raise TooLong(len(ids) + 1)
    ids, targets = ids[: frame.most], targets[: frame.most]
    if not (targets != NO_LABEL).any():  # what would be learned lies behind the cut
        raise TooLong(len(ids) + 1)
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
