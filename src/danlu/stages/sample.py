"""Have a model answer prompts, judge the answers, and keep the best as a dataset: best-of-n, rejection sampling, pairs."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from danlu.core import files, log
from danlu.core.artifact import Artifact, check_out, open_artifact, publish, work_folder
from danlu.core.errors import BadSettings, Interrupted, NoUsableText
from danlu.core.settings import Named, Settings, choice
from danlu.data.steps import words
from danlu.stages import STAGES, start
from danlu.train.rewards import REWARDS
from danlu.train.workplace import Workplace

if TYPE_CHECKING:
    from danlu.engine.live import LiveEngine
    from danlu.stages.sampled import Tally
    from danlu.train.harvest import Harvest, Prompt

_FREE = ("model", "dataset", "out", "threads", "overwrite")
"""Settings that may change between the attempts of a run."""


class Asking(Settings):
    """How the model answers."""

    max_tokens: int = Field(256, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Chance: 0 always takes the likeliest token, so that all answers are the same; 1 follows the model's probabilities."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Choose among the likeliest tokens that together hold this probability."""
    top_k: int | None = Field(None, ge=1)
    """Choose among the k likeliest tokens only."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Choose among tokens at least this fraction as likely as the likeliest."""


class Sample(Settings):
    """Any dataset of conversations will do: prompts with known answers (--form verifiable), pairs, or chats, whose last answer is
    then the known one. The result is a dataset for `danlu finetune` (messages) or `danlu align` (--keep pairs). An interrupted
    run goes on when the same command is given again."""

    positional = ("model", "dataset")

    model: Path
    """Folder of the model that answers; it must have a chat template."""
    dataset: Path
    """Folder that `danlu prepare --form ...` wrote."""
    out: Path
    """Folder of the new dataset; the answers so far lie beside it in OUT.run."""
    rewards: Annotated[list[Annotated[Named, choice(REWARDS)]], BeforeValidator(words)] = Field([])
    """What answers are worth, added up: exact, numeric, code, model, ... as in `numeric:tolerance=0.01 length:most=64,weight=0.1`
    (danlu list rewards)."""
    answers: int = Field(8, ge=1)
    """Answers to each prompt."""
    keep: Literal["best", "above", "all", "pairs"] = "best"
    """What stays of them: the best of each prompt (best-of-n), all that are worth `least` (rejection sampling), all, or the best
    and the worst as a preference."""
    least: float | None = None
    """Answers that are worth less do not stay; of a pair, the better one must be worth it."""
    margin: float = Field(0.0, ge=0)
    """By how much more than this the better answer of a pair must be worth than the worse."""
    most: int | None = Field(None, ge=1)
    """Of `above` and `all`: how many answers of a prompt stay at most, the best of them."""
    cut: Literal["drop", "keep"] = "drop"
    """Answers that ran out of tokens: they would teach never to end."""
    ask: Asking = Asking()
    """How the model answers."""
    prompts: int | None = Field(None, ge=1)
    """Only so many prompts of each split, the first ones."""
    overlong: Literal["raise", "drop"] = "raise"
    """Prompts that leave no room for an answer: stop with an error, or leave them out; the ledger counts them."""
    batch: int = Field(16, ge=1)
    """Prompts that are answered together, and then kept on disk."""
    rows: int = Field(64, ge=1)
    """Answers that are written at the same time."""
    seed: int = 0
    """Seed of every answer: each has its own, whatever else is asked."""
    threads: int | None = Field(None, ge=1)
    """Threads. None: OMP_NUM_THREADS, else all cores."""
    overwrite: bool = False
    """Whether to replace a finished output, or drop an unfinished run with other settings."""


@STAGES.register
def sample(config: Sample) -> Artifact:
    """Write a dataset of a model's own answers."""
    from danlu.engine.folder import model_input
    from danlu.train.signals import stopping

    check_out(config.out, config.overwrite)
    _check(config)
    dataset, model = open_artifact(config.dataset, "dataset"), model_input(config.model)
    place = Workplace(work_folder(config.out))
    identity = {**config.model_dump(mode="json", exclude=set(_FREE)), "dataset": dataset.id, "model": model.id}
    with place.locked(), stopping() as stop:
        place.begin(identity, config.overwrite)
        with place.forgotten_if_refused():
            harvest, prompts, tally = _assemble(config, _answers_folder(place.folder, identity))
            harvest.stopped = lambda: stop.asked
            return _publish(config, dataset, place, [model, dataset.as_input("dataset")], harvest, prompts, tally)


def _check(config: Sample) -> None:
    """Raise BadSettings for settings that do not go together, before anything is opened."""
    if not config.rewards and config.keep != "all":
        raise BadSettings(f"--keep {config.keep} goes by what answers are worth: give --rewards (danlu list rewards), or say "
                          f"--keep all.")  # fmt: skip
    if config.keep == "above" and config.least is None:
        raise BadSettings("--keep above: above what? Give --least, as in --least 1.")
    if config.keep == "pairs" and config.answers < 2:
        raise BadSettings("--keep pairs needs two answers to a prompt: give --answers 2 or more.")
    if config.ask.temperature == 0 and config.answers > 1:
        raise BadSettings(f"--ask.temperature 0 always writes the same answer, and {config.answers} of them are asked for. "
                          f"Give a higher one, or --answers 1.")  # fmt: skip


def _answers_folder(folder: Path, identity: dict[str, Any]) -> Path:
    """Where the answers of these settings lie; those of others are of no use to this run and go."""
    key = hashlib.blake2b(json.dumps(identity, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()
    for other in folder.glob("answers-*"):
        if other.name != f"answers-{key}":
            shutil.rmtree(other)
    return folder / f"answers-{key}"


def _assemble(config: Sample, folder: Path) -> "tuple[Harvest, dict[str, list[Prompt]], Tally]":
    """The engine, the prompts of both splits, and the books."""
    from danlu.data.shards import SPLITS, read_documents
    from danlu.engine.request import Sampling
    from danlu.stages.sampled import Tally
    from danlu.train.harvest import Harvest, read_prompts
    from danlu.train.rewards.base import Mix

    live = _engine(config)
    room = live.model.context - config.ask.max_tokens
    if room < 1:
        raise BadSettings(f"--ask.max_tokens {config.ask.max_tokens} leaves no room for a prompt: the model sees "
                          f"{live.model.context} tokens at once.")  # fmt: skip
    mix, prompts, tally = Mix(config.rewards) if config.rewards else None, {}, Tally(config.answers)
    for split in SPLITS:
        documents = list(read_documents(config.dataset, split))
        if documents and not {"prompt", "messages"} & set(documents[0].sample):
            raise BadSettings(f"{config.dataset} holds {', '.join(documents[0].sample) or 'plain text'}, and nothing to "
                              f"answer. Prepare it with --form verifiable, preference, or a chat's.")  # fmt: skip
        taken = documents[: config.prompts]
        prompts[split], left_out = read_prompts(taken, live.model.tokenizer, room, config.overlong == "drop")
        tally.read(split, len(taken), left_out)
    if mix:
        mix.check((f"{one.document.path}:{one.document.line}", one.truth) for part in prompts.values() for one in part)
    sampling = Sampling(**config.ask.model_dump())
    harvest = Harvest(live, sampling, mix, config.answers, config.batch, config.seed, folder)
    return harvest, prompts, tally


def _engine(config: Sample) -> "LiveEngine":
    """The model that answers. Raises BadSettings for one that cannot."""
    import torch

    from danlu.engine.live import LiveEngine
    from danlu.engine.model import Model, load
    from danlu.tokenizer.turns import ends_of

    if config.threads:
        torch.set_num_threads(config.threads)
    model = load(config.model)
    if not isinstance(model, Model) or not model.tokenizer.chat_template:
        lacks = "has a head in place of words" if not isinstance(model, Model) else "has no chat template"
        raise BadSettings(f"{config.model} {lacks}, so it answers no conversation. Take a model that was taught to "
                          f"(danlu finetune).")  # fmt: skip
    model.ends = model.ends | frozenset(ends_of(model.tokenizer))
    return LiveEngine(model, rows=config.rows)


def _publish(
    config: Sample, dataset: Artifact, place: Workplace, inputs: list[Any], harvest: "Harvest",
    prompts: "dict[str, list[Prompt]]", tally: "Tally",
) -> Artifact:  # fmt: skip
    """Write the dataset once all answers are there. Raises Interrupted, NoUsableText."""
    from danlu.stages import sampled
    from danlu.train.choosing import Rule

    rule = Rule(config.keep, config.least, config.margin, config.cut == "keep", config.most)
    with publish(config.out, kind="dataset", stage="sample", settings=config, inputs=inputs, overwrite=config.overwrite) as draft:
        for split, part in prompts.items():
            sampled.write(draft.path, split, harvest.gather(split, part), rule, tally)
            if harvest.stopped():
                raise Interrupted(f"stopped after {tally.asked} of {sum(map(len, prompts.values()))} prompts, and kept their "
                                  f"answers. To go on, run the same command again.")  # fmt: skip
        if not tally.documents["train"]:
            raise NoUsableText(f"of {tally.written:,} answers none stays ({tally.why()}). Ask for more --answers or "
                               f"--ask.max_tokens, or for less with --least or --margin. The answers lie in "
                               f"{place.folder}.")  # fmt: skip
        draft.ledger, draft.metrics = tally.ledger(), tally.metrics()
        draft.seeds = {"seed": config.seed}
        draft.licences, draft.sources = start.records(config.model, dataset)
        files.write_text(draft.path / "ledger.json", json.dumps(draft.ledger, ensure_ascii=False, indent=1) + "\n")
        files.write_text(draft.path / "README.md", sampled.card(config, tally))
        sampled.report(draft.path, config, tally)
    log.say(tally.summary())
    place.finish()
    assert draft.result is not None
    return draft.result
