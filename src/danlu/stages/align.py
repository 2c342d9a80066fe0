"""Align a model with what people or rules prefer: reward model, DPO and its kin from pairs; PPO, GRPO and their kin by trying."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from danlu.core.artifact import Artifact
from danlu.core.errors import TokenizerMismatch
from danlu.core.settings import Named, choice
from danlu.objectives import OBJECTIVES
from danlu.stages import STAGES
from danlu.stages.teaching import Begun, Teaching, offline, teach
from danlu.train.workplace import Workplace

if TYPE_CHECKING:
    from danlu.data.shards import Document
    from danlu.objectives.labelled import Labelled
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.launch import World


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
) -> Begun:  # fmt: skip
    """The batches of a run: samples as they are, or answers that the model writes as it learns."""
    begun = offline(config, place, model, tokenizer, objective, documents, world)
    if getattr(objective, "reference", False):
        _refer(config, place, model, tokenizer, objective, begun, world)
    return begun


def _refer(
    config: Any, place: Workplace, model: Any, tokenizer: "Tokenizer", objective: "Labelled", begun: Begun, world: "World"
) -> None:
    """Put beside the samples what the reference model thinks of them: another model, or this one as it begins."""
    import torch

    from danlu.engine.folder import model_input
    from danlu.models.adapters.base import disabled
    from danlu.train.reference import add_reference

    judge = model if config.reference is None else other(config.reference, tokenizer).to(model.device)
    made_from = {"model": model_input(config.reference or config.model).id}
    add_reference(
        begun.samples, objective, judge, place.folder, made_from, world, row_tokens=begun.batches.row_tokens,
        micro_tokens=config.micro_tokens, dtype=torch.bfloat16 if config.dtype == "bfloat16" else None, around=disabled(judge),
    )  # fmt: skip


def other(folder: Path, tokenizer: "Tokenizer") -> Any:
    """Another model that reads the same tokens. Raises TokenizerMismatch."""
    from danlu.models.weights import load_model
    from danlu.tokenizer.tokenizer import Tokenizer

    if Tokenizer.open(folder).id != tokenizer.id:
        raise TokenizerMismatch(
            f"{folder} reads other tokens than the model that learns, so what it thinks of them cannot be compared. Give a model "
            f"with the same tokenizer.json."
        )
    return load_model(folder).eval()
