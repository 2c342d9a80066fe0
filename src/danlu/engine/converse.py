"""An answer to a conversation: its messages become a prompt by the model's chat template, as a server would send them."""

from collections.abc import Mapping, Sequence
from typing import Any

from danlu.core.errors import BadInput
from danlu.engine.generate import Writing, answer_room
from danlu.engine.model import Model
from danlu.engine.request import Sampling
from danlu.tokenizer.chat import encode_chat, turn_ends

Messages = Sequence[Mapping[str, Any]]


def prompt_ids(model: Model, messages: Messages, tools: Messages | None = None) -> list[int]:
    """Ids of a conversation, up to where the answer begins. Raises BadInput: no template, or one that refuses the messages.

    Names of special tokens in what people say stay text.
    """
    return encode_chat(model.tokenizer, template_of(model), messages, tools)


def reply(model: Model, messages: Messages, sampling: Sampling, tools: Messages | None = None) -> Writing:
    """The answer, to be iterated; it ends where the template ends a turn. Raises PromptTooLong before any work, BadInput."""
    model.check_goes_on()
    ids = prompt_ids(model, messages, tools)
    room = answer_room(len(ids), sampling.max_tokens, model.context)
    ends = model.ends | turn_ends(model.tokenizer, template_of(model))
    return Writing(model.decoder(len(ids) + room), ids, room, sampling, model.tokenizer, ends)


def template_of(model: Model) -> str:
    """The chat template. Raises BadInput for a base model."""
    if not model.tokenizer.chat_template:
        raise BadInput(
            f"{model.path} has no chat template: it goes on with a text and holds no conversation. Teach it one with "
            f"`danlu finetune`, or use `danlu generate`."
        )
    return model.tokenizer.chat_template
