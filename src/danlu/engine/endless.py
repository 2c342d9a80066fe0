"""Answers and prompts of any length, in constant memory: the model keeps a text's first tokens and a window of the latest."""

from danlu.core.errors import BadSettings
from danlu.engine.decode import ModelDecoder
from danlu.engine.generate import Writing
from danlu.engine.model import Model
from danlu.engine.request import MOST_TOKENS, Sampling
from danlu.models.decoder import Decoder

SINKS = 4
"""First tokens that are kept: section 3.2 of arXiv:2309.17453 finds that four are enough."""


class EndlessDecoder(ModelDecoder):
    """Decoding by the model with a memory of `sinks` and a `window`; see nn/sinks.py. No step looks at more than a window."""

    def __init__(self, model: Decoder, window: int, sinks: int = SINKS):
        super().__init__(model, capacity=1)
        self._state = model.endless_state(1, window, sinks)


def write_endless(model: Model, text: str, sampling: Sampling, window: int, sinks: int = SINKS) -> Writing:
    """An answer as `Model.write` gives it, but prompt and answer may be longer than the model's context together.

    What has left the window is forgotten. Raises BadSettings for families and sizes that cannot.
    """
    name = model.model.config.name
    if not isinstance(model.model, Decoder) or model.both_ways:
        how = "reads its prompt both ways" if model.both_ways else f"({name}) has no rotary decoder"
        raise BadSettings(f"--window: {model.path} {how}. Leave it out; prompt and answer then share {model.context} tokens.")
    try:
        decoder = EndlessDecoder(model.model, window, sinks)
    except ValueError as error:
        raise BadSettings(f"--window {window} --sinks {sinks}: {error}. Choose a smaller window, or leave it out.") from None
    room = MOST_TOKENS if sampling.max_tokens is None else sampling.max_tokens
    return Writing(decoder, model.encode(text), room, sampling, model.tokenizer, model.ends)
