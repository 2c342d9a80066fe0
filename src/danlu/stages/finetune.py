"""Teach a trained model a task from labelled samples: classes, numbers, tags, answers in a text, embeddings."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from danlu.core import files, log
from danlu.core.artifact import Artifact, check_out, open_artifact, publish, work_folder
from danlu.core.errors import BadSettings
from danlu.core.settings import Named, Settings, choice
from danlu.core.units import Budget
from danlu.objectives import OBJECTIVES
from danlu.stages import STAGES, start
from danlu.stages.attempt import attempt, go_on, new_run
from danlu.train.guard import GuardSettings
from danlu.train.optimisers import OPTIMISERS
from danlu.train.schedules import SCHEDULES
from danlu.train.watchers import WATCHERS
from danlu.train.workplace import Workplace

if TYPE_CHECKING:
    from danlu.data.shards import Document
    from danlu.models.heads import Headed
    from danlu.objectives.labelled import Labelled
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.launch import World
    from danlu.train.loop import Run
    from danlu.train.samples import Samples

_FREE = ("model", "dataset", "out", "threads", "recompute", "parallel", "watch", "overwrite")
"""Settings that may change between the attempts of a run: paths (the ids count) and what moves only the last digits."""
_ADVICE = "Fewer --micro_tokens take less memory and change nothing else; --recompute trades memory for time."


class Watch(Settings):
    """Who looks on. Nothing here changes what is learned."""

    progress: Annotated[Named, choice(WATCHERS)] = {"name": "progress"}  # type: ignore[assignment]  # noqa: RUF012
    """Tokens per second, loss, time left."""
    heldout: Annotated[Named, choice(WATCHERS)] = {"name": "labelled"}  # type: ignore[assignment]  # noqa: RUF012
    """Loss on held-out samples while training."""
    save: Annotated[Named, choice(WATCHERS)] = {"name": "save"}  # type: ignore[assignment]  # noqa: RUF012
    """When checkpoints are made, and how many stay."""
    tensorboard: bool = False
    """Also write TensorBoard files into the work folder (extra: tensorboard)."""


class Finetune(Settings):
    """The words' head of the model gives way to one for the task; all weights learn. An interrupted run goes on when the same
    command is given again."""

    positional = ("model", "dataset")

    model: Path
    """Folder of the model to begin from: made by `danlu pretrain` or any Hugging Face folder of a known family."""
    dataset: Path
    """Folder that `danlu prepare --form ...` wrote."""
    out: Path
    """Model folder to write, in Hugging Face's layout; the run's own state lies beside it in OUT.run."""
    objective: Annotated[Named, choice(OBJECTIVES)] = {"name": "classify"}  # type: ignore[assignment]  # noqa: RUF012
    """What is learned: classify, regress, tag, extract or contrast."""
    epochs: float = Field(3.0, gt=0)
    """How often every sample is seen; neither a budget nor steps must be given then."""
    budget: Budget | None = None
    """Training to spend in place of epochs: 3m, 2h, '400k tokens', '1e16 flops'."""
    steps: int | None = Field(None, ge=1)
    """Steps to train for, in place of epochs or a budget."""
    batch: int = Field(32, ge=1)
    """Samples of a step, over all processes."""
    overlong: Literal["raise", "drop", "truncate", "split"] = "raise"
    """Samples longer than the model's context: stop with an error, leave them out, cut their end, or (tags, answers) split
    them; the ledger counts each."""
    row_tokens: int | None = Field(None, ge=2)
    """Tokens of a row, which short samples share; None: 256, or the model's context where that is shorter."""
    micro_tokens: int = Field(16_384, ge=1)
    """Most tokens that a process computes at once: fewer take less memory and change nothing else."""
    optimiser: Annotated[Named, choice(OPTIMISERS)] = {"name": "adamw"}  # type: ignore[assignment]  # noqa: RUF012
    """How weights move; a rate that is not given follows from the model's width."""
    schedule: Annotated[Named, choice(SCHEDULES)] = {"name": "linear", "warmup": 0.06}  # type: ignore[assignment]  # noqa: RUF012
    """How the rate moves over the run."""
    seed: int = 0
    """Seed of every random choice."""
    max_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this norm; 0: never."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the layers; weights stay float32."""
    threads: int | None = Field(None, ge=1)
    """Threads of each process. None: OMP_NUM_THREADS, else all cores."""
    recompute: bool = False
    """Keep only the input of each block for the backward pass and compute the rest again: less memory, more time."""
    parallel: Literal["auto", "none", "ddp", "fsdp"] = "auto"
    """How several processes (torchrun) share the model: copies (ddp) or shards (fsdp). auto: ddp."""
    guard: GuardSettings = GuardSettings()
    """What happens when loss or gradients explode."""
    watch: Watch = Field(default_factory=Watch)
    """Who looks on."""
    overwrite: bool = False
    """Whether to replace a finished output, or drop an unfinished run with other settings."""


@STAGES.register
def finetune(config: Finetune) -> Artifact | None:
    """Train; returns the model folder (None in all but the first of several processes)."""
    from danlu.train.loop import train
    from danlu.train.memory import advised

    check_out(config.out, config.overwrite)
    dataset = open_artifact(config.dataset, "dataset")
    _check(config)
    place = Workplace(work_folder(config.out))
    with attempt(config, place, lambda: _identity(config, dataset)) as (world, stop):
        run, tokenizer, samples = _assemble(config, place, world)
        run.stop = stop
        go_on(run)
        with advised(_ADVICE):
            train(run)
        return _publish(config, dataset, place, run, tokenizer, samples)


def _check(config: Finetune) -> None:
    """Raise BadSettings where the objective or the dataset is none to finetune with, NotAnArtifact where the model is none."""
    from danlu.data.shards import sample_columns
    from danlu.models.weights import read_config
    from danlu.objectives.labelled import Labelled
    from danlu.tokenizer.tokenizer import Tokenizer

    read_config(config.model)
    Tokenizer.open(config.model)

    objective = OBJECTIVES[config.objective.name]
    if not (isinstance(objective, type) and issubclass(objective, Labelled)):
        names = [name for name in OBJECTIVES.names() if issubclass(OBJECTIVES[name], Labelled)]
        raise BadSettings(f"--objective.name {config.objective.name} learns from plain text: that is `danlu pretrain`. "
                          f"Here: {', '.join(names)}.")  # fmt: skip
    found = sample_columns(config.dataset)
    if not any(set(wanted) <= set(found) for wanted in objective.columns):
        wanted = " or ".join(" and ".join(columns) for columns in objective.columns)
        raise BadSettings(
            f"--objective.name {config.objective.name} learns from samples with {wanted}, and {config.dataset} holds "
            f"{', '.join(found) or 'no labels, only text'}. Prepare it with `danlu prepare SOURCE -o DATASET --form ...` "
            f"(danlu list forms)."
        )


def _identity(config: Finetune, dataset: Artifact) -> dict[str, Any]:
    """What makes a run this run and no other."""
    from danlu.engine.folder import model_input

    settings = config.model_dump(mode="json", exclude=set(_FREE))
    return {**settings, "dataset": dataset.id, "model": model_input(config.model).id}


def _assemble(config: Finetune, place: Workplace, world: "World") -> "tuple[Run, Tokenizer, dict[str, Samples]]":
    """The run before its first step."""
    import torch

    from danlu.core.seeds import derive
    from danlu.models.heads import attach, load_body
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.parallel import Parallel, save_activations
    from danlu.train.samples import SampleBatches

    started = time.monotonic()
    if config.threads:
        torch.set_num_threads(config.threads)
    tokenizer, body = Tokenizer.open(config.model), load_body(config.model)
    objective: Labelled = OBJECTIVES.build(config.objective, tokenizer)
    documents = _documents(config)
    head = _head(objective, [one for part in documents.values() for one in part])
    model = attach(body, head, derive(config.seed, "head"))
    model.train()
    samples = _samples(config, documents, objective, model, tokenizer)
    model.to(world.device)
    if config.recompute:
        save_activations(model)
    row_tokens = min(config.row_tokens or 256, model.config.context)
    batches = SampleBatches(samples["train"], objective, config.batch, row_tokens, config.micro_tokens, config.seed, world.rank,
                            world.size)  # fmt: skip
    parallel = Parallel(model, objective, world, config.parallel, torch.bfloat16 if config.dtype == "bfloat16" else None)
    plan = _plan(config, place, parallel, batches, world, started)
    chosen = {**config.optimiser.model_dump(), **plan["optimiser"]}
    optimiser = OPTIMISERS.build(OPTIMISERS[chosen["name"]].Config(**chosen), list(model.named_parameters()))
    run = new_run(config, place, parallel, optimiser=optimiser, schedule=SCHEDULES.build(config.schedule), batches=batches,
                  steps=plan["steps"], seconds=plan["seconds"])  # fmt: skip
    run.watchers = _watchers(config, model, samples.get("validation"), row_tokens)
    return run, tokenizer, samples


def _documents(config: Finetune) -> "dict[str, list[Document]]":
    """The samples of both splits; one without documents is left out."""
    from danlu.data.shards import SPLITS, read_documents

    found = {split: list(read_documents(config.dataset, split)) for split in SPLITS}
    if not found["validation"]:
        log.warn("the dataset has no held-out samples: nothing will say how good the model is (danlu prepare --holdout 0.1)")
    return {split: documents for split, documents in found.items() if documents}


def _head(objective: "Labelled", documents: "list[Document]") -> Any:
    from danlu.models.heads import HeadConfig

    return HeadConfig(task=objective.task, **objective.learn(documents))  # type: ignore[arg-type]  # the heads' tasks


def _samples(
    config: Finetune, documents: "dict[str, list[Document]]", objective: "Labelled", model: "Headed", tokenizer: "Tokenizer"
) -> "dict[str, Samples]":
    """Both splits as tokens."""
    from danlu.engine.heads import frame_of
    from danlu.train.samples import read

    frame = frame_of(model, tokenizer, objective.texts)
    return {split: read(part, len(part), objective, frame, config.overlong) for split, part in documents.items()}


def _plan(config: Finetune, place: Workplace, parallel: Any, batches: Any, world: "World", started: float) -> dict[str, Any]:
    """Steps, seconds and rates of the run: from disk where it has begun."""
    from danlu.train.tune import plan

    path = place.folder / "plan.json"
    if not world.tell(path.is_file()):
        rated = config.optimiser.model_fields_set & {"learning_rate"}
        found = plan(parallel, batches, epochs=config.epochs, steps=config.steps, budget=config.budget,
                     optimiser=config.optimiser.name, rated=bool(rated), spent_s=time.monotonic() - started)  # fmt: skip
        if world.first:  # every process took part: steps that are timed exchange gradients
            files.write_text(path, json.dumps(found, indent=1) + "\n")
            log.say("\n  ".join(["the plan:", *found["reasons"]]))
            log.emit("plan", **found)
    world.wait()
    decided: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return decided


def _watchers(config: Finetune, model: "Headed", heldout: "Samples | None", row_tokens: int) -> list[Any]:
    from danlu.train.watchers.base import Tools

    tools = Tools(heldout=heldout if heldout else None, flops_per_token=model.flops_per_token(row_tokens))
    return [WATCHERS.build(one, tools) for one in (config.watch.progress, config.watch.heldout, config.watch.save)]


def _publish(
    config: Finetune, dataset: Artifact, place: Workplace, run: "Run", tokenizer: "Tokenizer", samples: "dict[str, Samples]"
) -> Artifact | None:
    from danlu.data.shards import read_documents
    from danlu.engine.folder import model_input
    from danlu.engine.heads import HeadedModel, save_headed
    from danlu.evaluate import labelled
    from danlu.train import card, record, report
    from danlu.train.parallel import unwrapped

    model = unwrapped(run.parallel)
    if not run.world.first:
        return None
    model.eval()
    inputs = [model_input(config.model), dataset.as_input("dataset")]
    with publish(config.out, kind="model", stage="finetune", settings=config, inputs=inputs, overwrite=config.overwrite) as draft:
        save_headed(model, tokenizer, draft.path)
        live = HeadedModel(model, tokenizer, config.out)
        judged = None
        if samples.get("validation"):
            judged = labelled.score(live, list(read_documents(config.dataset, "validation")), overlong=config.overlong)
        draft.ledger, draft.seeds = record.sample_ledger(run, samples), {"seed": config.seed}
        draft.metrics = {**record.metrics(run, model), **(labelled.figures(judged) if judged else {})}
        draft.licences, draft.sources = start.records(config.model, dataset)
        draft.wall_s = run.seconds
        settings = config.model_dump(mode="json")
        files.write_text(draft.path / "README.md", card.write_task_card(config.out.name, model, draft, settings))
        report.write(place.folder, draft.path, title=f"Fine-tuning of {config.out.name}", settings=settings, ledger=draft.ledger,
                     inputs=inputs, metrics=draft.metrics,
                     parts=(lambda page: labelled.add_to(page, judged)) if judged else None)  # fmt: skip
    if judged:
        log.say(labelled.summary(judged))
    place.finish()
    return draft.result
