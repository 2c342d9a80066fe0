"""What `danlu finetune` and `danlu align` share: a trained model, samples and an objective become a run, and a folder.

Samples of tasks get a head in place of the words' one; conversations keep it. Nothing here knows what is minimised.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from danlu.core import files, log
from danlu.core.artifact import Artifact, check_out, open_artifact, publish, work_folder
from danlu.core.errors import BadSettings
from danlu.core.lineage import Input
from danlu.core.settings import Named, Settings, choice
from danlu.core.units import Budget, count
from danlu.models.adapters import ADAPTERS
from danlu.objectives import OBJECTIVES
from danlu.stages import start
from danlu.stages.attempt import attempt, go_on, new_run
from danlu.stages.judging import Judging
from danlu.train.guard import GuardSettings
from danlu.train.optimisers import OPTIMISERS
from danlu.train.schedules import SCHEDULES
from danlu.train.watchers import WATCHERS
from danlu.train.workplace import Workplace

if TYPE_CHECKING:
    from danlu.core.page import Page
    from danlu.data.shards import Document
    from danlu.objectives.labelled import Labelled
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.launch import World
    from danlu.train.loop import Run
    from danlu.train.samples import Samples

FREE = ("model", "dataset", "out", "threads", "recompute", "parallel", "watch", "judge", "show",
        "overwrite")  # fmt: skip
"""Settings that may change between the attempts of a run: paths (the ids count) and what moves only the last digits."""
_FIRST = ("sft", "classify", "tag", "extract", "dpo", "kto", "grpo")
"""Objectives for samples that several could learn from, in the order in which they are taken."""
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


class Teaching(Settings):
    """Settings of every run that starts from a trained model and samples."""

    positional = ("model", "dataset")

    model: Path
    """Folder of the model to begin from: made by `danlu pretrain` or any Hugging Face folder of a known family."""
    dataset: Path
    """Folder that `danlu prepare --form ...` wrote."""
    out: Path
    """Folder to write, in Hugging Face's layout; the run's own state lies beside it in OUT.run."""
    epochs: float = Field(3.0, gt=0)
    """How often every sample is seen; neither a budget nor steps must be given then."""
    budget: Budget | None = None
    """Training to spend in place of epochs: 3m, 2h, '400k tokens', '1e16 flops'."""
    steps: int | None = Field(None, ge=1)
    """Steps to train for, in place of epochs or a budget."""
    batch: int = Field(32, ge=1)
    """Samples of a step, over all processes."""
    overlong: Literal["raise", "drop", "truncate", "split"] = "raise"
    """Samples longer than the model's context: stop with an error, leave them out, cut their end, or split them (tags, answers,
    conversations by exchanges); the ledger counts each."""
    row_tokens: int | None = Field(None, ge=2)
    """Tokens of a row, which short samples share. None: on a processor all of a micro-batch stand in one row, without padding,
    where the family allows; else 256, or the model's context where that is shorter."""
    micro_tokens: int = Field(16_384, ge=1)
    """Most tokens that a process computes at once: fewer take less memory and change nothing else."""
    template: str | None = None
    """Chat template of the result: chatml, chatml_thinking, or a file. None: the model's own; one that has none takes chatml."""
    new_tokens: list[str] = Field([])
    """Tokens to add to the vocabulary; each begins as the mean of the pieces that it was written with before."""
    adapter: Annotated[Named, choice(ADAPTERS)] | None = None
    """Small parts that learn beside the frozen model: lora, dora, prompt, prefix; the result is PEFT's folder, for this model.
    None: the model's own weights learn."""
    freeze: list[str] = Field([])
    """Weights that stay as they are, by patterns over their names: 'model.layers.[0-3].*'."""
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
    judge: Judging = Judging()
    """What the model is asked before and after, to say what the run changed."""
    watch: Watch = Field(default_factory=Watch)
    """Who looks on."""
    show: int = Field(0, ge=0)
    """Print so many samples before the first step, with what is learned of them in colour."""
    overwrite: bool = False
    """Whether to replace a finished output, or drop an unfinished run with other settings."""


@dataclass
class Lesson:
    """The parts of a run, put together."""

    model: Any
    tokenizer: "Tokenizer"
    objective: "Labelled"
    samples: "dict[str, Samples]"
    """Those of each split that has any."""
    run: "Run"
    beginning: "Callable[[], Any]"
    """Makes the model as it was before the first step."""
    preflight: dict[str, Any]
    """What was found before the first step."""


@dataclass
class Begun:
    """What a run steps through."""

    module: Any
    """What learns: the model, or the model with more around it."""
    batches: Any
    samples: "dict[str, Samples]"


Begin = Callable[["Teaching", Workplace, Any, "Tokenizer", "Labelled", "dict[str, list[Document]]", "World"], Begun]
"""Makes the batches of a run."""


def teach(config: Any, stage: str, begin: "Begin | None" = None, finish: "Callable[[Lesson, Any], None] | None" = None,
          more: tuple[Input, ...] = ()) -> Artifact | None:  # fmt: skip
    """Train; returns the folder that was written (None in all but the first of several processes).

    begin: makes the batches; None: the dataset's samples in an order of the seed. finish: adds to the folder, the record and the
    report before they are published. more: what went into the run beside model and dataset.
    """
    from danlu.train.loop import train
    from danlu.train.memory import advised

    check_out(config.out, config.overwrite)
    dataset = open_artifact(config.dataset, "dataset")
    config = with_objective(config, stage)
    check(config, stage)
    place = Workplace(work_folder(config.out))
    with attempt(config, place, lambda: identity(config, dataset, more)) as (world, stop):
        lesson = _assemble(config, place, world, begin or offline)
        lesson.run.stop = stop
        go_on(lesson.run)
        with advised(_ADVICE):
            train(lesson.run)
        return _publish(config, stage, dataset, place, lesson, more, finish)


def check(config: Any, stage: str) -> None:
    """Raise BadSettings where the objective or the dataset is none of this stage, NotAnArtifact where the model is none."""
    from danlu.data.shards import sample_columns
    from danlu.models.weights import read_config
    from danlu.tokenizer.tokenizer import Tokenizer

    read_config(config.model)
    Tokenizer.open(config.model)
    objective = OBJECTIVES[config.objective.name]
    if config.objective.name not in (names := offered(stage)):
        other = getattr(objective, "stage", "pretrain")
        learns = "learns from plain text" if other == "pretrain" else "is offered there"
        raise BadSettings(
            f"--objective.name {config.objective.name} {learns}: that is `danlu {other}`. Here: {', '.join(names)}."
        )
    found = sample_columns(config.dataset)
    if not any(set(wanted) <= set(found) for wanted in objective.columns):
        wanted = " or ".join(" and ".join(columns) for columns in objective.columns)
        raise BadSettings(
            f"--objective.name {config.objective.name} learns from samples with {wanted}, and {config.dataset} holds "
            f"{', '.join(found) or 'no labels, only text'}. Prepare it with `danlu prepare SOURCE -o DATASET --form ...` "
            f"(danlu list forms)."
        )


def with_objective(config: Any, stage: str) -> Any:
    """The settings with the objective that the samples are for, where none was named."""
    from danlu.data.shards import sample_columns

    if config.objective is not None:
        return config
    found = set(sample_columns(config.dataset))
    fitting = learning(stage, found)
    if not fitting:
        other = "align" if stage == "finetune" else "finetune"
        if there := learning(other, found):
            raise BadSettings(
                f"{config.dataset} holds {', '.join(sorted(found))}: `danlu {other}` learns from that ({', '.join(there)}), and "
                f"`danlu {stage}` does not."
            )
        raise BadSettings(
            f"no objective of `danlu {stage}` learns from {config.dataset}: it holds "
            f"{', '.join(sorted(found)) or 'no labels, only text'}. Prepare it with `danlu prepare SOURCE -o DATASET --form ...` "
            f"(danlu list forms)."
        )
    name = min(fitting, key=lambda one: (_FIRST.index(one) if one in _FIRST else len(_FIRST), one))
    log.say(f"the samples have {', '.join(sorted(found))}: --objective.name {name}")
    return config.model_copy(update={"objective": OBJECTIVES[name].Config()})


def learning(stage: str, columns: set[str]) -> list[str]:
    """The objectives of a stage that learn from samples with these columns."""
    return [name for name in offered(stage) if any(set(wanted) <= columns for wanted in OBJECTIVES[name].columns)]


def offered(stage: str) -> list[str]:
    """The objectives of a stage."""
    return [name for name in OBJECTIVES.names() if getattr(OBJECTIVES[name], "stage", "pretrain") == stage]


def identity(config: Any, dataset: Artifact, more: tuple[Input, ...] = ()) -> dict[str, Any]:
    """What makes a run this run and no other."""
    from danlu.engine.folder import model_input

    settings = config.model_dump(mode="json", exclude=set(FREE))
    return {**settings, "dataset": dataset.id, "model": model_input(config.model).id, **{one.role: one.id for one in more}}


def _assemble(config: Any, place: Workplace, world: "World", begin: "Begin") -> Lesson:
    """The run before its first step."""
    import torch

    from danlu.train.parallel import Parallel, save_activations

    started = time.monotonic()
    if config.threads:
        torch.set_num_threads(config.threads)
    documents = _documents(config)
    every = [one for part in documents.values() for one in part]
    model, tokenizer, objective = pupil(config, every)
    start_learning(config, model, tokenizer)
    model.train()
    model.to(world.device)
    begun = begin(config, place, model, tokenizer, objective, documents, world)
    batches, samples = begun.batches, begun.samples
    found = preflight(config, model, tokenizer, objective, documents, samples, batches)
    if config.recompute:
        save_activations(model)
    parallel = Parallel(begun.module, objective, world, config.parallel, torch.bfloat16 if config.dtype == "bfloat16" else None)
    plan = _plan(config, place, parallel, batches, world, started)
    chosen = {**config.optimiser.model_dump(), **plan["optimiser"]}
    moved = [(name, part) for name, part in begun.module.named_parameters() if part.requires_grad]
    optimiser = OPTIMISERS.build(OPTIMISERS[chosen["name"]].Config(**chosen), moved)
    run = new_run(config, place, parallel, optimiser=optimiser, schedule=SCHEDULES.build(config.schedule), batches=batches,
                  steps=plan["steps"], seconds=plan["seconds"])  # fmt: skip
    run.watchers = _watchers(config, model, objective, samples.get("validation"), batches.row_tokens)
    return Lesson(model, tokenizer, objective, samples, run, lambda: pupil(config, every)[0], found)


def pupil(config: Any, documents: "list[Document]") -> "tuple[Any, Tokenizer, Labelled]":
    """The model as it begins, its tokenizer, and the objective: a new head on its body, or its own words."""
    from danlu.core.seeds import derive
    from danlu.models.heads import HeadConfig, attach, load_body
    from danlu.objectives.answers import Answers
    from danlu.stages.speaking import grown, speaker, with_template
    from danlu.tokenizer.tokenizer import Tokenizer

    kind, tokenizer = OBJECTIVES[config.objective.name], Tokenizer.open(config.model)
    words = kind.task is None
    model, tokenizer = grown(config, speaker(config) if words else load_body(config.model), tokenizer)
    if issubclass(kind, Answers):
        tokenizer = with_template(config, tokenizer)
    objective: Labelled = OBJECTIVES.build(config.objective, tokenizer)
    if words:
        return model, tokenizer, objective
    head = HeadConfig(task=kind.task, **objective.learn(documents))
    return attach(model, head, derive(config.seed, "head")), tokenizer, objective


def start_learning(config: Any, model: Any, tokenizer: "Tokenizer") -> None:
    """Say which weights learn: an adapter's, or all but those that are frozen by name."""
    from danlu.core.seeds import derive
    from danlu.models.adapters.base import attach, trainable
    from danlu.models.weights import read_packed
    from danlu.tokenizer.tokenizer import Tokenizer

    if config.adapter is not None:
        if config.freeze:
            raise BadSettings("--adapter freezes the whole model already: leave --freeze out.")
        rows = [tokenizer.vocab[token] for token in config.new_tokens]
        attach(model, config.adapter, derive(config.seed, "adapter"), read_packed(config.model), rows)
        if tokenizer.chat_template and not Tokenizer.open(config.model).chat_template and not config.adapter.whole:
            log.warn(
                "the base has never seen the tokens that end a turn, and an adapter leaves their rows as they are: answers may "
                "not end. Teach the base in full once, or say --adapter.whole embed_tokens lm_head."
            )
    elif config.freeze:
        from danlu.models.freeze import freeze

        freeze(model, config.freeze)
    learns = sum(part.numel() for _, part in trainable(model))
    whole = sum(part.numel() for part in model.parameters())
    if learns < whole:
        log.say(f"{count(learns)} of {count(whole)} parameters learn ({learns / whole:.2%})")


def preflight(
    config: Any, model: Any, tokenizer: "Tokenizer", objective: "Labelled", documents: "dict[str, list[Document]]",
    samples: "dict[str, Samples]", batches: Any,
) -> dict[str, Any]:  # fmt: skip
    """Figures of what was looked at before the first step. Raises PreflightFailed where training and serving would differ."""
    from danlu.stages.speaking import checked

    return checked(config, model, tokenizer, objective, documents, samples, batches) if objective.task is None else {}


def offline(
    config: Any, place: Workplace, model: Any, tokenizer: "Tokenizer", objective: "Labelled",
    documents: "dict[str, list[Document]]", world: "World",
) -> Begun:  # fmt: skip
    """The dataset's samples, in an order of the seed."""
    from danlu.train.samples import SampleBatches

    samples = read_samples(config, model, tokenizer, objective, documents)
    width = row_tokens(config, model)
    batches = SampleBatches(
        samples["train"], objective, config.batch, width, config.micro_tokens, config.seed, world.rank, world.size
    )
    return Begun(model, batches, samples)


def row_tokens(config: Any, model: Any) -> int:
    """Tokens of a row, which short samples share."""
    if config.row_tokens is None and model.device.type == "cpu" and getattr(model, "body", model).long_rows:
        return int(config.micro_tokens)
    return int(min(config.row_tokens or 256, model.config.context))


def read_samples(
    config: Any, model: Any, tokenizer: "Tokenizer", objective: "Labelled", documents: "dict[str, list[Document]]"
) -> "dict[str, Samples]":
    """Every split as tokens; some are shown, where that was asked for."""
    from danlu.engine.heads import frame_of
    from danlu.objectives.frame import Frame
    from danlu.train.samples import read

    words = objective.task is None
    frame = Frame(tokenizer, False, model.config.context, False) if words else frame_of(model, tokenizer, objective.texts)
    samples = {split: read(part, len(part), objective, frame, config.overlong) for split, part in documents.items()}
    if config.show:
        from danlu.stages.speaking import show

        show(samples["train"], tokenizer, config.show)
    return samples


def _documents(config: Any) -> "dict[str, list[Document]]":
    """The samples of both splits; one without documents is left out."""
    from danlu.data.shards import SPLITS, read_documents

    found = {split: list(read_documents(config.dataset, split)) for split in SPLITS}
    if not found["validation"]:
        log.warn("the dataset has no held-out samples: nothing will say how good the model is (danlu prepare --holdout 0.1)")
    return {split: documents for split, documents in found.items() if documents}


def _plan(config: Any, place: Workplace, parallel: Any, batches: Any, world: "World", started: float) -> dict[str, Any]:
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


def _watchers(config: Any, model: Any, objective: "Labelled", heldout: "Samples | None", row_tokens: int) -> list[Any]:
    from danlu.train.watchers.base import Tools

    tools = Tools(
        heldout=heldout or None if not objective.online else None,
        flops_per_token=model.flops_per_token(min(row_tokens, model.config.context)),
    )
    looks = WATCHERS["rollouts"].Config() if objective.online else config.watch.heldout
    return [WATCHERS.build(one, tools) for one in (config.watch.progress, looks, config.watch.save)]


def _publish(
    config: Any, stage: str, dataset: Artifact, place: Workplace, lesson: Lesson, more: tuple[Input, ...],
    finish: "Callable[[Lesson, Any], None] | None",
) -> Artifact | None:  # fmt: skip
    from danlu.engine.folder import model_input
    from danlu.train import record, report
    from danlu.train.online import bare
    from danlu.train.parallel import unwrapped

    model, run = bare(unwrapped(lesson.run.parallel)), lesson.run
    if not run.world.first:
        return None
    model.eval()
    inputs = [model_input(config.model), dataset.as_input("dataset"), *more]
    kept = "adapter" if getattr(config, "adapter", None) else "model"
    with publish(config.out, kind=kept, stage=stage, settings=config, inputs=inputs, overwrite=config.overwrite) as draft:
        draft.ledger, draft.seeds = record.sample_ledger(run, lesson.samples), {"seed": config.seed}
        draft.metrics = {**record.metrics(run, model), **record.judged(run)}
        draft.ledger |= {"preflight": lesson.preflight} if lesson.preflight else {}
        draft.licences, draft.sources = start.records(config.model, dataset)
        draft.wall_s = run.seconds
        settings = config.model_dump(mode="json")
        said, parts = _keep(config, model, lesson, draft, settings)
        if finish:
            finish(lesson, draft)
        title = f"{'Alignment' if stage == 'align' else 'Fine-tuning'} of {config.out.name}"
        report.write(place.folder, draft.path, title=title, settings=settings, ledger=draft.ledger,
                     inputs=inputs, metrics=draft.metrics, parts=parts)  # fmt: skip
    if said:
        log.say(said)
    place.finish()
    return draft.result


def _keep(
    config: Any, model: Any, lesson: Lesson, draft: Any, settings: dict[str, Any]
) -> "tuple[str, Callable[[Page], None] | None]":
    """Write the folder; what to say of how the model was judged, and its part of the report."""
    from danlu.data.shards import read_documents
    from danlu.engine.folder import model_input
    from danlu.engine.heads import HeadedModel, save_headed
    from danlu.evaluate import labelled
    from danlu.models.adapters.base import is_adapted, save_adapter
    from danlu.train import card

    if lesson.objective.task is None:
        from danlu.stages.speaking import keep

        return keep(config, model, lesson, draft, settings)
    if is_adapted(model):
        save_adapter(model, draft.path, config.model, model_input(config.model).id)
        lesson.tokenizer.save(draft.path)
    else:
        save_headed(model, lesson.tokenizer, draft.path)
    judged = None
    if lesson.samples.get("validation"):
        live = HeadedModel(model, lesson.tokenizer, config.out)
        judged = labelled.score(live, list(read_documents(config.dataset, "validation")), overlong=config.overlong)
        draft.metrics = {**draft.metrics, **labelled.figures(judged)}
    files.write_text(draft.path / "README.md", card.write_task_card(config.out.name, model, draft, settings))
    if judged is None:
        return "", None
    found = judged
    return labelled.summary(found), lambda page: labelled.add_to(page, found)
