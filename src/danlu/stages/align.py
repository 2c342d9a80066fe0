"""Align a model with what people or rules prefer: reward model, DPO and its kin from pairs; PPO, GRPO and their kin by trying."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from danlu.core.artifact import Artifact
from danlu.core.settings import Named, choice
from danlu.objectives import OBJECTIVES
from danlu.stages import STAGES
from danlu.stages.teaching import Teaching, offline, teach
from danlu.train.workplace import Workplace

if TYPE_CHECKING:
    from danlu.data.shards import Document
    from danlu.objectives.labelled import Labelled
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.launch import World
    from danlu.train.samples import Samples


class Align(Teaching):
    """Pairs of answers (dpo, kto, orpo, simpo, reward) are learned from as they are; prompts whose answers can be judged (grpo,
    rloo, reinforce_pp, ppo) are answered by the model as it learns. An interrupted run goes on when the same command is given
    again."""

    positional = ("model", "dataset")

    objective: Annotated[Named, choice(OBJECTIVES)] | None = None
    """What is learned, and from what: reward, dpo, kto, orpo, simpo (preferences); grpo, rloo, reinforce_pp, ppo (rewards);
    distill, gkd (a teacher). None: what the samples are for."""
    reference: Path | None = None
    """Folder of the model that answers are held near to. None: the model as it begins."""


@STAGES.register
def align(config: Align) -> Artifact | None:
    """Train; returns the folder that was written (None in all but the first of several processes)."""
    return teach(config, "align", begin)


def begin(
    config: Any, place: Workplace, model: Any, tokenizer: "Tokenizer", objective: "Labelled",
    documents: "dict[str, list[Document]]", world: "World",
) -> "tuple[Any, dict[str, Samples]]":  # fmt: skip
    """The batches of a run: samples as they are, or answers that the model writes as it learns."""
    return offline(config, place, model, tokenizer, objective, documents, world)
