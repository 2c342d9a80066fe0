"""Teach a trained model: to follow instructions from conversations, or a task from labelled samples."""

from typing import Annotated

from danlu.core.artifact import Artifact
from danlu.core.settings import Named, choice
from danlu.objectives import OBJECTIVES
from danlu.stages import STAGES
from danlu.stages.teaching import Teaching, teach


class Finetune(Teaching):
    """Conversations (sft) keep the model's words; for a task a head of its own takes their place. An interrupted run goes on when
    the same command is given again."""

    positional = ("model", "dataset")

    objective: Annotated[Named, choice(OBJECTIVES)] | None = None
    """What is learned: sft (conversations), classify, regress, tag, extract or contrast. None: what the samples are for, classes
    where labels could be numbers or pairs too."""


@STAGES.register
def finetune(config: Finetune) -> Artifact | None:
    """Train; returns the model folder (None in all but the first of several processes)."""
    return teach(config, "finetune")
