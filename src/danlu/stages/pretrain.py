"""Train a language model on a dataset within a budget, from nothing or from a model's weights."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from danlu.core import files, log
from danlu.core.artifact import Artifact, check_out, open_artifact, work_folder
from danlu.core.errors import OutOfMemory, TokenizerMismatch
from danlu.core.machine import cores, memory_bytes
from danlu.core.settings import Named, Settings, choice, load
from danlu.core.units import Budget, size
from danlu.models import MODELS
from danlu.objectives import OBJECTIVES
from danlu.stages import STAGES, counting, fitting, settings_of, start
from danlu.stages.attempt import attempt, go_on, new_run
from danlu.stages.finished import finished
from danlu.train.guard import GuardSettings
from danlu.train.optimisers import OPTIMISERS
from danlu.train.schedules import SCHEDULES
from danlu.train.watchers import WATCHERS
from danlu.train.workplace import Workplace

if TYPE_CHECKING:
    from danlu.data.tokens import TokenSet
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train.launch import World
    from danlu.train.loop import Run
    from danlu.train.plan import Pace, Plan

_FREE = ("dataset", "out", "init", "replay", "tokenizer", "threads", "compile", "recompute", "parallel", "watch", "weights",
         "overwrite")  # fmt: skip
"""Settings that may change between the attempts of a run: paths (the ids count) and what moves only the last digits."""
_ADVICE = (
    "Fewer --micro_rows take less memory and change nothing else; --recompute trades memory for time; shorter --row_tokens or "
    "a smaller --model help most."
)


class Watch(Settings):
    """Who looks on. Nothing here changes what is learned."""

    progress: Annotated[Named, choice(WATCHERS)] = {"name": "progress"}  # type: ignore[assignment]  # noqa: RUF012
    """Tokens per second, loss, time left."""
    heldout: Annotated[Named, choice(WATCHERS)] = {"name": "heldout"}  # type: ignore[assignment]  # noqa: RUF012
    """Loss on held-out text while training, and bits per byte where the objective's nats are those of the text."""
    samples: Annotated[Named, choice(WATCHERS)] = {"name": "samples"}  # type: ignore[assignment]  # noqa: RUF012
    """What the model writes as it learns."""
    save: Annotated[Named, choice(WATCHERS)] = {"name": "save"}  # type: ignore[assignment]  # noqa: RUF012
    """When checkpoints are made, and how many stay."""
    experts: Annotated[Named, choice(WATCHERS)] = {"name": "experts"}  # type: ignore[assignment]  # noqa: RUF012
    """Which experts tokens go to, where the model has experts."""
    profile: Annotated[Named, choice(WATCHERS)] | None = None
    """A trace of a few steps: say --watch.profile profile."""
    tensorboard: bool = False
    """Also write TensorBoard files into the work folder (extra: tensorboard)."""


class Pretrain(Settings):
    """Sizes, batch, rates and length are chosen by the budget where they are not given here. An interrupted run goes on when
    the same command is given again."""

    positional = ("dataset",)

    dataset: Path
    """Folder that `danlu prepare` wrote."""
    out: Path
    """Model folder to write, in Hugging Face's layout; the run's own state lies beside it in OUT.run."""
    init: Path | None = None
    """Model folder to go on from: weights, sizes, tokenizer. --model may change what moves no weight: rope_scaling, ..."""
    replay: Path | None = None
    """Folder of text that the model of --init has learned from: a part of the rows shows it again, so that less is forgotten."""
    replay_share: float = Field(0.1, gt=0, lt=1)
    """Part of the rows that --replay fills."""
    tokenizer: Path | None = None
    """Folder that `danlu tokenizer` wrote; left out: one is trained on the dataset, with a vocabulary that suits the budget."""
    budget: Budget = "10m"  # type: ignore[assignment]  # defaults are validated
    """Training to spend: 3m, 2h, '400k tokens', '1e16 flops'."""
    steps: int | None = Field(None, ge=1)
    """Steps to train for, in place of what the budget allows."""
    model: Annotated[Named, choice(MODELS)] = {"name": "qwen3"}  # type: ignore[assignment]  # noqa: RUF012
    """Family and sizes; sizes that are not given are chosen by the budget."""
    objective: Annotated[Named, choice(OBJECTIVES)] = {"name": "causal"}  # type: ignore[assignment]  # noqa: RUF012
    """What is minimised."""
    optimiser: Annotated[Named, choice(OPTIMISERS)] = {"name": "muon"}  # type: ignore[assignment]  # noqa: RUF012
    """How weights move; rates that are not given are chosen by the budget."""
    schedule: Annotated[Named, choice(SCHEDULES)] = {"name": "wsd"}  # type: ignore[assignment]  # noqa: RUF012
    """How the rate moves over the run."""
    row_tokens: int | None = Field(None, ge=2)
    """Tokens of a row: what the model sees at once. None: chosen by the budget; with --init, the model's context."""
    batch_rows: int | None = Field(None, ge=1)
    """Rows of a step, over all processes. None: chosen by the budget."""
    micro_rows: int | None = Field(None, ge=1)
    """Most rows that a process computes at once: fewer take less memory and change nothing else. None: chosen by the budget."""
    vocab_size: int | None = Field(None, ge=1)
    """Vocabulary of the tokenizer that is trained when none is given. None: chosen by the budget."""
    seed: int = 0
    """Seed of every random choice."""
    max_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this norm; 0: never."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the layers; weights stay float32. auto: what this machine does faster, as measured."""
    threads: int | None = Field(None, ge=1)
    """Threads of each process. None: OMP_NUM_THREADS, else all cores."""
    compile: bool = False
    """Compile the blocks first: pays in long runs."""
    recompute: bool = False
    """Keep only the input of each block for the backward pass and compute the rest again: less memory, more time."""
    parallel: Literal["auto", "none", "ddp", "fsdp"] = "auto"
    """How several processes (torchrun) share the model: copies (ddp) or shards (fsdp). auto: ddp."""
    guard: GuardSettings = GuardSettings()
    """What happens when loss or gradients explode."""
    weights: Literal["best", "last"] = "best"
    """Which weights stay where the held-out loss ends more than 1 % above its lowest, the text learned by heart."""
    watch: Watch = Field(default_factory=Watch)
    """Who looks on."""
    overwrite: bool = False
    """Whether to replace a finished output, or drop an unfinished run with other settings."""

    @model_validator(mode="before")
    @classmethod
    def _family(cls, data: Any) -> Any:
        """A model that is not named is of the family that the objective is for."""
        if not isinstance(data, Mapping):
            return data
        objective, model = data.get("objective", "causal"), data.get("model", {})
        if data.get("init") and isinstance(model, Mapping) and "name" not in model:
            return {**data, "model": {"name": start.family(Path(data["init"])), **model}}
        named = objective.get("name", "causal") if isinstance(objective, Mapping) else getattr(objective, "name", objective)
        if named not in OBJECTIVES or not isinstance(model, Mapping) or "name" in model:
            return data
        return {**data, "model": {"name": OBJECTIVES[named].family or "qwen3", **model}}

    @property
    def brought(self) -> Path | None:
        """The folder whose tokenizer is used; None: one is trained."""
        return self.tokenizer or self.init


@STAGES.register
def pretrain(config: Pretrain) -> Artifact | None:
    """Train; returns the model folder (None in all but the first of several processes)."""
    from danlu.train.loop import train
    from danlu.train.memory import advised

    check_out(config.out, config.overwrite)
    fitting.check_kind(config.objective.name, config.model.name)
    start.check(config)
    fitting.check_rows(config.model, config.row_tokens)
    if config.brought:
        fitting.check_tokenizer(config.objective.name, config.brought, config.vocab_size)
    dataset = open_artifact(config.dataset, "dataset")
    fitting.check_fields(config.objective.name, config.dataset)
    place = Workplace(work_folder(config.out))
    with attempt(config, place, lambda: _identity(config, dataset)) as (world, stop):
        if MODELS[config.model.name].counted:
            return _count(config, dataset, place, world)
        plan, pace, spent_s = _decide(config, place, world)
        tokenizer = _tokenizer(config, place, plan.vocab_size, world)
        _check_vocabulary(config, tokenizer)
        tokens = {split: _tokens(config, dataset, place, tokenizer, split, world) for split in ("train", "validation")}
        if config.replay:
            other = config.model_copy(update={"dataset": config.replay})
            old = open_artifact(config.replay, "dataset")
            tokens["replay"] = _tokens(other, old, place, tokenizer, "train", world)
        run = _assemble(config, place, plan, tokenizer, tokens, world)
        run.stop = stop
        run.weights = config.weights
        run.watchers = _watchers(config, plan, pace, run, tokenizer, tokens["validation"])
        run.horizon.spend(spent_s)
        go_on(run)
        with advised(f"{_ADVICE} ({plan.micro_rows} rows of {plan.row_tokens} were used.)"):
            train(run)
        return _publish(config, dataset, place, tokenizer, tokens, run)


def _count(config: Pretrain, dataset: Artifact, place: Workplace, world: "World") -> Artifact | None:
    """The way of families that are counted; the vocabulary is what the text supports."""
    counting.check(config)
    tokenizer = _tokenizer(config, place, config.vocab_size or "auto", world)
    _check_vocabulary(config, tokenizer)
    tokens = {split: _tokens(config, dataset, place, tokenizer, split, world) for split in ("train", "validation")}
    if not world.first:
        return None
    made = counting.count(config, dataset, tokenizer, tokens)
    place.finish()
    return made


def _identity(config: Pretrain, dataset: Artifact) -> dict[str, Any]:
    """What makes a run this run and no other."""
    from danlu.tokenizer.tokenizer import Tokenizer

    settings = config.model_dump(mode="json", exclude=set(_FREE))
    begun = {"init": start.as_input(config.init).id} if config.init else {}
    known = Tokenizer.open(config.brought).id if config.brought else None
    begun |= {"replay": open_artifact(config.replay, "dataset").id} if config.replay else {}
    return {**settings, **begun, "dataset": dataset.id, "tokenizer": known}


def _decide(config: Pretrain, place: Workplace, world: "World") -> "tuple[Plan, Pace, float]":
    """The plan of the run, the pace it rests on and the seconds that deciding took: from disk where the run has begun."""
    from danlu.train.budget import charged
    from danlu.train.plan import Pace, Plan

    path = place.folder / "plan.json"
    if world.first and not path.is_file():
        started = time.monotonic()
        plan, pace = _choose(config, world, started)
        spent_s = charged(config.budget, time.monotonic() - started)
        decided = {"plan": plan.model_dump(mode="json"), "pace": pace.model_dump(mode="json"), "spent_s": spent_s}
        files.write_text(path, json.dumps(decided, indent=1) + "\n")
        log.say("\n  ".join(["the plan:", *plan.reasons]))
        log.emit("plan", **plan.model_dump(mode="json"))
    world.wait()
    decided = json.loads(path.read_text(encoding="utf-8"))
    plan = Plan(**decided["plan"])
    if plan.memory_bytes > memory_bytes():
        raise OutOfMemory(
            f"this run would need about {size(plan.memory_bytes)} of memory and this process may use {size(memory_bytes())}. "
            f"Nothing has begun. {_ADVICE}"
        )
    return plan, Pace(**decided["pace"]), decided["spent_s"]


def _choose(config: Pretrain, world: "World", started: float) -> "tuple[Plan, Pace]":
    """Measure this machine and the text, and let the budget decide what the settings leave open."""
    from danlu.tokenizer.tokenizer import Tokenizer
    from danlu.train import budget, corpus, speed
    from danlu.train.plan import Fixed, given

    dtype = None if config.dtype == "auto" else config.dtype
    settings = start.model_settings(config.init, config.model) if config.init else None
    fixed = Fixed(
        model=settings.model_dump(mode="json") if settings else given(config.model),
        vocab_size=None if config.tokenizer else config.vocab_size,
        row_tokens=config.row_tokens or (settings.context if settings else None),
        rows=config.batch_rows, micro_rows=config.micro_rows, steps=config.steps, optimiser=given(config.optimiser),
        schedule=given(config.schedule), dtype=dtype, threads=config.threads, compile=config.compile, processes=world.size,
        forgets=not settings and OBJECTIVES[config.objective.name].kind == "CausalLM",
    )  # fmt: skip
    text = corpus.facts(config.dataset, Tokenizer.open(config.brought) if config.brought else None)
    if fixed.vocab_size:
        text = text.model_copy(update={"bytes_per_token": {fixed.vocab_size: _between(text.bytes_per_token, fixed.vocab_size)}})
    pace = speed.measure(config.threads, dtype)
    log.say(speed.describe(pace))
    plan = budget.choose(config.budget, text, pace, fixed, spent_s=time.monotonic() - started)
    if settings:
        plan = plan.model_copy(update={"optimiser": start.gentler(plan.optimiser, fixed.optimiser)})
    return plan, pace


def _between(bytes_per_token: dict[int, float], vocab_size: int) -> float:
    """Bytes of a token for a vocabulary between measured ones, even in the logarithm of its size."""
    import numpy as np

    sizes = sorted(bytes_per_token)
    return float(np.interp(np.log(vocab_size), np.log(sizes), [bytes_per_token[one] for one in sizes]))


def _tokenizer(config: Pretrain, place: Workplace, vocab_size: int | str, world: "World") -> "Tokenizer":
    """The tokenizer given, or one trained here with such a vocabulary."""
    from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS
    from danlu.tokenizer.tokenizer import Tokenizer

    special = OBJECTIVES[config.objective.name].special_tokens
    if config.brought:
        return Tokenizer.open(config.brought)
    folder = place.folder / "tokenizer"
    if config.vocab_size is None and isinstance(vocab_size, int):
        vocab_size += len(special)  # what the budget chose is for text
    if world.first and not folder.exists():
        settings = {"dataset": config.dataset, "out": folder, "vocab_size": vocab_size,
                    "special_tokens": [*DEFAULT_SPECIAL_TOKENS, *special]}  # fmt: skip
        STAGES["tokenizer"](load(settings_of("tokenizer"), settings, "danlu tokenizer"))
    world.wait()
    return Tokenizer.open(folder)


def _check_vocabulary(config: Pretrain, tokenizer: "Tokenizer") -> None:
    asked = getattr(config.model, "vocab_size", None)
    if _asked(config, "vocab_size") and asked < tokenizer.vocab_size:
        raise TokenizerMismatch(
            f"--model.vocab_size {asked} is smaller than the tokenizer's {tokenizer.vocab_size} tokens. "
            f"Leave it out: the model takes the tokenizer's size."
        )


def _tokens(
    config: Pretrain, dataset: Artifact, place: Workplace, tokenizer: "Tokenizer", split: str, world: "World"
) -> "TokenSet | None":
    """The tokens of a split, made by the first process and kept for later runs; None for a split without documents."""
    from danlu.data.shards import count, read_documents
    from danlu.data.tokens import TokenSet, write_tokens

    total = count(config.dataset, split)
    if split == "validation" and not total["documents"]:
        return None
    objective = OBJECTIVES.build(config.objective, tokenizer)
    folder = place.folder / "tokens" / "-".join([dataset.id, tokenizer.id, *objective.fields]) / split
    if world.first:
        write_tokens(
            folder, read_documents(config.dataset, split), objective.encode_batch, bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id, vocab_size=tokenizer.vocab_size, total_bytes=total["bytes"], take=objective.take,
        )  # fmt: skip
    world.wait()
    return TokenSet.open(folder)


def _assemble(
    config: Pretrain, place: Workplace, plan: "Plan", tokenizer: "Tokenizer", tokens: "dict[str, TokenSet | None]", world: "World"
) -> "Run":
    """The run before its first step."""
    import torch

    from danlu.core.seeds import derive
    from danlu.data.replay import Replay
    from danlu.train.batches import Batches
    from danlu.train.parallel import Parallel, compile_blocks, save_activations

    torch.set_num_threads(config.threads or _threads(plan))
    model_settings = MODELS[plan.model["name"]].Config(**{**plan.model, **_vocabulary(config, plan, tokenizer)})
    model = start.model(config.init, model_settings, derive(config.seed, "model"))
    model.to(world.device)
    if config.recompute:
        save_activations(model)
    if config.compile or plan.compile:
        compile_blocks(model)
    objective = OBJECTIVES.build(config.objective, tokenizer)
    parallel = Parallel(model, objective, world, config.parallel, torch.bfloat16 if plan.dtype == "bfloat16" else None)
    optimiser = OPTIMISERS.build(OPTIMISERS[plan.optimiser["name"]].Config(**plan.optimiser), list(model.named_parameters()))
    schedule = SCHEDULES.build(SCHEDULES[plan.schedule["name"]].Config(**plan.schedule))
    train_tokens = tokens["train"]
    assert train_tokens is not None
    for part in tokens.values():
        if part is not None:
            objective.check(part, plan.row_tokens)
    packer: Any = objective.packer(train_tokens, plan.row_tokens, config.seed)
    if (old := tokens.get("replay")) is not None:
        packer = Replay(packer, objective.packer(old, plan.row_tokens, config.seed), config.replay_share)
    by_time = plan.budget.unit == "seconds" and config.steps is None
    return new_run(
        config, place, parallel, optimiser=optimiser, schedule=schedule, steps=plan.steps,
        seconds=plan.budget.amount if by_time else None,
        batches=Batches(packer, objective, plan.rows, plan.micro_rows, world.rank, world.size),
    )  # fmt: skip


def _threads(plan: "Plan") -> int:
    return int(os.environ["OMP_NUM_THREADS"]) if "OMP_NUM_THREADS" in os.environ else min(plan.threads, cores())


def _vocabulary(config: Pretrain, plan: "Plan", tokenizer: "Tokenizer") -> dict[str, Any]:
    """What the tokenizer decides about a new model; a vocabulary that the user wants larger may be larger."""
    if config.init:
        return {}
    fields = MODELS[plan.model["name"]].Config.model_fields
    known = {"vocab_size": max(tokenizer.vocab_size, plan.model.get("vocab_size", 0) if _asked(config, "vocab_size") else 0),
             "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id,
             "decoder_start_token_id": tokenizer.start_id}  # fmt: skip
    return {key: value for key, value in known.items() if key in fields}


def _asked(config: Pretrain, setting: str) -> bool:
    return setting in config.model.model_fields_set


def _watchers(
    config: Pretrain, plan: "Plan", pace: "Pace", run: "Run", tokenizer: "Tokenizer", heldout: "TokenSet | None"
) -> list[Any]:
    from danlu.train.live import prompts, writer
    from danlu.train.watchers.base import Tools

    if heldout is None:
        log.warn("the dataset has no held-out documents: the run measures its training loss only")
    model = run.parallel.model
    tools = Tools(
        heldout=heldout,
        generate=None if run.parallel.mode == "fsdp" else writer(model, tokenizer),
        prompts=prompts(model, tokenizer, heldout, plan.row_tokens) if heldout else (),
        flops_per_token=model.flops_per_token(plan.row_tokens),
        peak_flops=pace.matmul_flops.get(plan.dtype, 0.0) * run.world.size,
    )
    watch = config.watch
    chosen = [watch.progress, watch.heldout, watch.samples, watch.save, watch.experts]
    chosen += [watch.profile] if watch.profile else []
    return [WATCHERS.build(one, tools) for one in chosen]


def _publish(
    config: Pretrain,
    dataset: Artifact,
    place: Workplace,
    tokenizer: "Tokenizer",
    tokens: "dict[str, TokenSet | None]",
    run: "Run",
) -> Artifact | None:
    from danlu.train.parallel import unwrapped
    from danlu.train.record import metrics, token_ledger
    from danlu.train.report import write as write_report

    model = unwrapped(run.parallel)  # every process takes part where the model is sharded
    if not run.world.first:
        return None
    ledger, figures = token_ledger(run, tokens), metrics(run, model, ("bits_per_byte", "accuracy"))
    with finished(config, dataset, model, tokenizer, ledger=ledger, metrics=figures, seconds=run.seconds) as draft:
        write_report(place.folder, draft.path, title=f"Training of {config.out.name}", settings=config.model_dump(mode="json"),
                     ledger=ledger, inputs=draft.inputs)  # fmt: skip
    place.finish()
    return draft.result
