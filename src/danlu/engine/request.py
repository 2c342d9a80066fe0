"""What is asked of a model: how many tokens, how chance picks them, where to stop.

`Sampling` is the one place where these settings are declared; the command line, `Model.generate` and later the server read it.
"""

from collections.abc import Collection
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from danlu.core.errors import BadSettings
from danlu.core.settings import Settings
from danlu.engine.samplers import ORDER, SAMPLERS, Sampler

MOST_TOKENS = 256
"""How many tokens an answer has at most when nobody said."""


class Sampling(Settings):
    """How an answer is written. Steps apply in the order logit_bias, repetition_penalty, frequency_penalty, presence_penalty,
    min_tokens, temperature, top_k, typical_p, top_p, min_p."""

    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of the answer; left out, up to 256 and no more than the model's context still holds."""
    temperature: float = Field(0.8, ge=0, allow_inf_nan=False)
    """Chance: 0 always takes the likeliest token, 1 follows the model's own probabilities, more is wilder."""
    top_k: int | None = Field(None, ge=1)
    """Choose among the k likeliest tokens only."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Choose among the likeliest tokens that together hold this probability."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Choose among tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Above 1, tokens of the prompt and the answer so far become less likely."""
    seed: int = 0
    """Same model, prompt, settings and seed: same answer."""
    stop: list[str] = Field([])
    """Texts that end the answer; they are not part of it."""
    min_tokens: int = Field(0, ge=0)
    """The model cannot end the answer before so many tokens."""
    ignore_eos: bool = False
    """Go on until max_tokens or a stop text, even where the model would end."""
    typical_p: float = Field(1.0, gt=0, le=1)
    """Choose among the tokens whose surprise is nearest to the expected one and that together hold this probability."""
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    """Taken from a token's logit for each time it stands in the answer so far."""
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    """Taken from a token's logit once it stands in the answer so far."""
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field({})
    """Added to the logits of given token ids, each -100 to 100; -100 all but forbids, 100 all but forces."""

    @model_validator(mode="after")
    def _least_and_most(self) -> Self:
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is more than max_tokens {self.max_tokens}")
        return self

    def check_tokens(self, known: int) -> None:
        """Raise BadSettings where logit_bias names a token that a vocabulary of `known` tokens does not have."""
        if wrong := [token for token in self.logit_bias if not 0 <= token < known]:
            raise BadSettings(f"logit_bias: there is no token {wrong[0]}; this vocabulary has ids 0 to {known - 1}.")

    def holds_open(self, answered: int) -> bool:
        """Whether an answer of so many tokens may not end yet."""
        return self.ignore_eos or answered < self.min_tokens

    def chain(self, ends: Collection[int] = (), constrained: bool = False) -> list[Sampler]:
        """The steps that change anything under these settings, in ORDER. `ends` are the tokens that end an answer."""
        wanted: dict[str, dict[str, Any]] = {}
        if self.logit_bias:
            wanted["logit_bias"] = {"bias": self.logit_bias}
        if self.repetition_penalty != 1:
            wanted["repetition_penalty"] = {"penalty": self.repetition_penalty}
        if self.frequency_penalty:
            wanted["frequency_penalty"] = {"penalty": self.frequency_penalty}
        if self.presence_penalty:
            wanted["presence_penalty"] = {"penalty": self.presence_penalty}
        if constrained:
            wanted["constraint"] = {}
        if ends and self.holds_open(0):
            wanted["min_tokens"] = {"tokens": None if self.ignore_eos else self.min_tokens, "ends": sorted(ends)}
        if self.temperature == 0:
            wanted["greedy"] = {}
        else:
            if self.temperature != 1:
                wanted["temperature"] = {"temperature": self.temperature}
            if self.top_k is not None:
                wanted["top_k"] = {"k": self.top_k}
            if self.typical_p < 1:
                wanted["typical_p"] = {"p": self.typical_p}
            if self.top_p < 1:
                wanted["top_p"] = {"p": self.top_p}
            if self.min_p > 0:
                wanted["min_p"] = {"p": self.min_p}
        return [SAMPLERS.build(SAMPLERS[name].Config(**wanted[name])) for name in ORDER if name in wanted]
