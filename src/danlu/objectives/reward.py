"""A reward model from pairs of answers (Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, equation 1).

One score for a whole conversation, read at its last token: all that the chat template writes, so that transformers'
AutoModelForSequenceClassification gives the same score to what its apply_chat_template writes. A margin may stand beside a pair
(Touvron et al. 2023, arXiv:2307.09288, section 3.2.2).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from danlu.core.errors import BadInput
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.answers import messages_of, place_of, tools_of
from danlu.objectives.base import Batch
from danlu.objectives.contrast import joined
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import Encoded, Overlong, TooLong, Useless, place_at
from danlu.objectives.preference import Judged
from danlu.tokenizer.chat import encode_chat
from danlu.tokenizer.tokenizer import Tokenizer


@OBJECTIVES.register
class Reward(Judged):
    """Scores under which chosen answers stand above rejected ones. The words' head gives way to one for the score."""

    kind = "model with a head"
    task = "reward"
    pace = 1.0
    columns = (("prompt", "chosen", "rejected"),)

    class Config(Named):
        name: Literal["reward"] = "reward"  # type: ignore[assignment]  # narrows
        centre: float = Field(0.01, ge=0)
        """Weight of the square of a pair's summed scores, which keeps scores around zero (arXiv:2312.09244)."""

    def learn(self, documents: Iterable[Document]) -> dict[str, Any]:
        return {"pooling": "last"}

    def encode(self, document: Document, frame: Frame, overlong: Overlong) -> list[Encoded]:
        """Targets: 1 chosen, 0 rejected; beside them the margin. Raises TooLong, BadInput, and Useless for equal answers."""
        assert self.tokenizer is not None
        prompt, margin = messages_of(document, "prompt"), _margin(document)
        sides = []
        for target, column in ((1, "chosen"), (0, "rejected")):
            messages = [*prompt, *messages_of(document, column)]
            try:
                ids = conversation_ids(self.tokenizer, messages, tools_of(document))
            except BadInput as error:
                raise BadInput(f"{place_of(document)}: {error.args[0]}") from None
            if (cut := len(ids) > frame.most) and overlong != "truncate":
                raise TooLong(len(ids))
            sides.append(place_at(ids[: frame.most], frame.first, target, margin, cut))
        chosen, rejected = sides
        if len(chosen.ids) == len(rejected.ids) and bool((chosen.ids == rejected.ids).all()):
            raise Useless("equal_answers")
        return [joined(sides)]

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        marked_BT = batch.targets != NO_LABEL
        score_N = model.scores(model.pooled(batch.ids, batch.documents, marked_BT))[:, 0]
        if batch.documents is None:  # a text without its partner: how far from the centre it stands
            return score_N.abs().sum()
        chosen_P, rejected_P = score_N[::2], score_N[1::2]
        margin_P = batch.values[marked_BT][::2]  # type: ignore[attr-defined]  # a LabelledBatch
        if not torch.is_grad_enabled():
            found = {"accuracy": chosen_P > rejected_P, "margin": chosen_P - rejected_P, "chosen_reward": chosen_P,
                     "rejected_reward": rejected_P}  # fmt: skip
            self._figures = {name: float(part.sum()) for name, part in found.items()}
        return reward_losses(chosen_P, rejected_P, margin_P, self.config.centre).sum()


def reward_losses(chosen_P: Tensor, rejected_P: Tensor, margin_P: Tensor | float = 0.0, centre: float = 0.0) -> Tensor:
    """-log sigmoid(chosen - rejected - margin) + centre (chosen + rejected)^2 of scores, (P,) each.

    >>> reward_losses(torch.tensor([2.0]), torch.tensor([1.0]), margin_P=1.0, centre=0.1)  # log 2 + 0.1 * 9
    tensor([1.5931])
    """
    return -F.logsigmoid(chosen_P - rejected_P - margin_P) + centre * (chosen_P + rejected_P).square()


def conversation_ids(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> list[int]:
    """All that the chat template writes of a finished conversation. Raises BadInput."""
    if not tokenizer.chat_template:
        raise BadInput("the model has no chat template, and conversations are written by one. Give it one first.")
    return encode_chat(tokenizer, tokenizer.chat_template, messages, tools, add_generation_prompt=False)


def prompt_ids(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
) -> list[int]:
    """What a model is asked with: the conversation up to where it answers. Raises BadInput."""
    assert tokenizer.chat_template is not None
    return encode_chat(tokenizer, tokenizer.chat_template, messages, tools)


def _margin(document: Document) -> float:
    """By how much the chosen answer is better, where the samples say so."""
    said = document.sample.get("margin")
    try:
        return float(said or 0.0)
    except ValueError:
        raise BadInput(f"{place_of(document)}: margin {said!r} is no number.") from None
