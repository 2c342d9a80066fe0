"""The teacher of a distillation: opened, compared with the student, and handed to the objective, from memory or from disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from danlu.core import log
from danlu.core.errors import BadSettings
from danlu.core.lineage import Input
from danlu.objectives import OBJECTIVES

if TYPE_CHECKING:
    from danlu.objectives.labelled import Labelled
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.launch import World
    from danlu.train.samples import Samples


def inputs(config: Any) -> tuple[Input, ...]:
    """The teacher as an input of the run. Raises BadSettings where one is needed and not given, or given and not needed."""
    from danlu.engine.folder import model_input
    from danlu.models.weights import read_config

    if config.objective is None:
        return ()
    name = config.objective.name
    wants = name in OBJECTIVES and getattr(OBJECTIVES[name], "needs_teacher", False)
    if wants and config.teacher is None:
        raise BadSettings(f"--objective.name {name} comes near to a teacher: say which model that is with --teacher FOLDER.")
    if not wants and config.teacher is not None:
        raise BadSettings(f"--objective.name {name} learns from no teacher: leave --teacher out, or say --objective.name distill "
                          f"(given answers) or gkd (the student's own answers).")  # fmt: skip
    if config.teacher is None:
        return ()
    read_config(config.teacher)
    return (model_input(config.teacher, "teacher"),)


def give_teacher(
    config: Any, folder: Path, model: Any, tokenizer: "Tokenizer", objective: "Labelled", samples: "dict[str, Samples]",
    world: "World", row_tokens: int, room: int = 0,
) -> None:  # fmt: skip
    """Hand the objective its teacher; samples that learn from numbers on disk are numbered in place.

    room: tokens that are written behind a sample while it learns. Raises TokenizerMismatch, BadSettings.
    """
    import torch

    from danlu.engine.folder import model_input
    from danlu.models.weights import read_config
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.teacher import HeldTeacher, check_vocabularies, keep

    read_config(config.teacher)
    check_vocabularies(tokenizer, Tokenizer.open(config.teacher), config.teacher)
    dtype = torch.bfloat16 if config.dtype == "bfloat16" else None
    longest = max(int(part.lengths.max()) for part in samples.values() if len(part)) + room
    known, temperature = tokenizer.vocab_size, objective.config.temperature

    def opened() -> Any:
        teacher = _open(config.teacher)
        if teacher.config.context < longest:
            raise BadSettings(
                f"the teacher {config.teacher} sees {teacher.config.context} tokens at once, and there are samples of {longest}. "
                f"Prepare shorter ones (--overlong does not help here: it goes by the student), or take another teacher."
            )
        return teacher.to(model.device)

    if objective.online or config.teacher_top == 0:
        objective.teacher = HeldTeacher(opened(), known, temperature, dtype)  # type: ignore[attr-defined]
        return
    objective.teacher = keep(  # type: ignore[attr-defined]
        samples, objective, opened, known, folder, {"teacher": model_input(config.teacher).id}, world, top=config.teacher_top,
        temperature=temperature, row_tokens=row_tokens, micro_tokens=config.micro_tokens, dtype=dtype,
    )  # fmt: skip
    log.say(f"the teacher's numbers lie in {folder}; the teacher itself is not kept in memory")


def _open(folder: Path) -> Any:
    """The teacher with its words. Raises BadSettings for a model that writes none."""
    from danlu.models.base import CausalLM
    from danlu.models.heads import is_headed
    from danlu.models.weights import load_model, read_config

    model = None if is_headed(read_config(folder)) else load_model(folder)
    if not isinstance(model, CausalLM):
        raise BadSettings(f"the teacher {folder} does not write a text on from left to right, so there is no next token to learn "
                          f"from it.")  # fmt: skip
    return model.eval()
