"""How a model answers prompts while it learns: how many, how long, and how often it learns from the same answers."""

from typing import Literal

from pydantic import Field

from danlu.core.settings import Settings


class Rollouts(Settings):
    """How the model answers while it learns."""

    prompts: int = Field(16, ge=1)
    """Prompts of a roll-out, over all processes."""
    answers: int = Field(8, ge=1)
    """Answers to each."""
    max_tokens: int = Field(128, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Chance of the answers; log-probabilities are taken at the same."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Answer with the likeliest tokens that together hold this probability; below 1 what is learned no longer fits exactly what
    was drawn."""
    minibatches: int = Field(1, ge=1)
    """Steps into which the answers of a roll-out are split."""
    passes: int = Field(1, ge=1)
    """How often the answers of a roll-out are learned from; times minibatches, the steps that it serves."""
    rows: int = Field(64, ge=1)
    """Answers that are written at the same time."""
    cut: Literal["learn", "mask"] = "learn"
    """Answers that ran out of tokens: learn from them as from others, or mask them (DAPO's overlong filtering)."""
    resample: int = Field(0, ge=0)
    """Rounds of further prompts for those whose answers are all worth the same, which teach nothing (DAPO's dynamic sampling)."""
    measure_kl: bool = False
    """Compute the reference model's log-probabilities even where the objective does not ask for them, to show the divergence."""
    judge: int = Field(5, ge=0)
    """Times over the run that held-out prompts are answered greedily, to see how far it is."""
    judge_prompts: int = Field(100, ge=1)
    """Most held-out prompts that are answered then."""
    shown: int = Field(4, ge=0)
    """Answers of each roll-out that are kept for the report."""

    @property
    def updates(self) -> int:
        """Steps that a roll-out serves."""
        return self.minibatches * self.passes
