"""What is asked of a model: how many tokens, how chance picks them, where to stop.

`Sampling` is the one place where these settings are declared; the command line, `Model.generate` and later the server read it.
"""

from typing import Any

from pydantic import Field

from danlu.core.settings import Settings
from danlu.engine.samplers import ORDER, SAMPLERS, Sampler

MOST_TOKENS = 256
"""How many tokens an answer has at most when nobody said."""


class Sampling(Settings):
    """How an answer is written. Steps apply in the order repetition_penalty, temperature, top_k, top_p, min_p."""

    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of the answer; left out, up to 256 and no more than the model's context still holds."""
    temperature: float = Field(0.8, ge=0)
    """Chance: 0 always takes the likeliest token, 1 follows the model's own probabilities, more is wilder."""
    top_k: int | None = Field(None, ge=1)
    """Choose among the k likeliest tokens only."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Choose among the likeliest tokens that together hold this probability."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Choose among tokens at least this fraction as likely as the likeliest."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Above 1, tokens of the prompt and the answer so far become less likely."""
    seed: int = 0
    """Same model, prompt, settings and seed: same answer."""
    stop: list[str] = Field([])
    """Texts that end the answer; they are not part of it."""

    def chain(self) -> list[Sampler]:
        """The steps that change anything under these settings, in ORDER."""
        wanted: dict[str, dict[str, Any]] = {}
        if self.repetition_penalty != 1:
            wanted["repetition_penalty"] = {"penalty": self.repetition_penalty}
        if self.temperature == 0:
            wanted["greedy"] = {}
        else:
            if self.temperature != 1:
                wanted["temperature"] = {"temperature": self.temperature}
            if self.top_k is not None:
                wanted["top_k"] = {"k": self.top_k}
            if self.top_p < 1:
                wanted["top_p"] = {"p": self.top_p}
            if self.min_p > 0:
                wanted["min_p"] = {"p": self.min_p}
        return [SAMPLERS.build(SAMPLERS[name].Config(**wanted[name])) for name in ORDER if name in wanted]
