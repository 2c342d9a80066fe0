"""Align a model with what people or rules prefer: reward model, DPO and its kin from pairs; PPO, GRPO and their kin by trying."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from danlu.core.artifact import Artifact
from danlu.core.errors import TokenizerMismatch
from danlu.core.settings import Named, choice
from danlu.data.steps import words
from danlu.objectives import OBJECTIVES
from danlu.stages import STAGES, teachers
from danlu.stages.teaching import Begun, Teaching, offline, row_tokens, teach
from danlu.train.answering import Rollouts
from danlu.train.rewards import REWARDS
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
    teacher: Path | None = None
    """Folder of the model to come near to, for distill and gkd; it must have the same vocabulary."""
    teacher_top: int = Field(64, ge=0)
    """Of the teacher's distributions the likeliest so many tokens are kept on disk, and all others as one; a vocabulary of no
    more tokens is kept whole. 0: nothing is kept, the teacher stays in memory, as it always does for gkd."""
    rewards: Annotated[list[Annotated[Named, choice(REWARDS)]], BeforeValidator(words)] = Field([])
    """What the model's own answers are worth, added up: exact, numeric, format, ... (danlu list rewards)."""
    rollouts: Rollouts = Rollouts()
    """How the model answers while it learns."""


@STAGES.register
def align(config: Align) -> Artifact | None:
    """Train; returns the folder that was written (None in all but the first of several processes)."""
    return teach(config, "align", begin, more=teachers.inputs(config))


def begin(
    config: Any, place: Workplace, model: Any, tokenizer: "Tokenizer", objective: "Labelled",
    documents: "dict[str, list[Document]]", world: "World",
) -> Begun:  # fmt: skip
    """The batches of a run: samples as they are, or answers that the model writes as it learns."""
    if objective.online:
        return _answering(config, place, model, tokenizer, objective, documents, world)
    begun = offline(config, place, model, tokenizer, objective, documents, world)
    if getattr(objective, "needs_teacher", False):
        teachers.give_teacher(config, place.folder, model, tokenizer, objective, begun.samples, world, begun.batches.row_tokens)
    if getattr(objective, "reference", False):
        _refer(config, place, model, tokenizer, objective, begun, world)
    return begun


def _answering(
    config: Any, place: Workplace, model: Any, tokenizer: "Tokenizer", objective: Any, documents: "dict[str, list[Document]]",
    world: "World",
) -> Begun:  # fmt: skip
    """Prompts that the model answers as it learns."""
    from danlu.train.online import online

    judge = other(config.reference, tokenizer) if config.reference is not None and objective.pull else None
    module, batches = online(
        model, tokenizer, objective, documents, config.rewards, config.rollouts, folder=place.folder, world=world,
        seed=config.seed, overlong=config.overlong, row_tokens=row_tokens(config, model), micro_tokens=config.micro_tokens,
        parallel=config.parallel, reference=judge,
    )  # fmt: skip
    samples = {"train": batches.prompts} | ({"validation": batches.heldout} if batches.heldout else {})
    if getattr(objective, "needs_teacher", False):
        room = config.rollouts.max_tokens
        teachers.give_teacher(config, place.folder, model, tokenizer, objective, samples, world, batches.row_tokens, room)
    return Begun(module, batches, samples)


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
