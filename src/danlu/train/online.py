"""A run over the model's own answers, put together: prompts, engine, rewards, reference, value head.

What a stage calls in place of making SampleBatches. The model comes back with a value head around it where the objective needs
one (`bare` gives the language model without it).
"""

import contextlib
import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.core.errors import BadSettings, UnsupportedModel
from danlu.data.shards import Document
from danlu.engine.live import LiveEngine
from danlu.engine.model import Model
from danlu.models.adapters.base import disabled, is_adapted
from danlu.models.base import CausalLM
from danlu.models.valued import Valued
from danlu.objectives.frame import Frame
from danlu.objectives.policy import Policy
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import ends_of
from danlu.train.answering import Rollouts
from danlu.train.launch import World
from danlu.train.rewards.base import Mix
from danlu.train.rolled import Kept
from danlu.train.rollout import RolloutBatches, read_prompts, standing

Reference = Callable[[], contextlib.AbstractContextManager[Any]]


def online(
    model: CausalLM, tokenizer: Tokenizer, objective: Policy, documents: Mapping[str, Sequence[Document]], rewards: Sequence[Any],
    settings: Rollouts, *, folder: Path | None, world: World, seed: int = 0, overlong: str = "raise", row_tokens: int = 256,
    micro_tokens: int = 16_384, ends: Collection[int] = (), parallel: str = "auto", reference: Any = None,
) -> tuple[Any, RolloutBatches]:  # fmt: skip
    """The module that trains, and its batches. Raises BadSettings, BadInput, UnsupportedModel.

    documents: by split; those of `validation` are answered now and then to see how far it is. rewards: settings of things on the
    shelf of rewards. folder: the run's work folder. ends: tokens that end an answer beside the tokenizer's own. reference:
    the model that answers are held near to; None: the model as it begins, without its adapter or as a copy.
    """
    if not rewards and getattr(objective, "rewarded", True):
        raise BadSettings("nothing says what an answer is worth: give --rewards, as in --rewards exact (danlu list rewards).")
    if parallel == "fsdp":
        raise BadSettings("--parallel fsdp: a model in shards cannot answer prompts while it learns. Say ddp.")
    if objective.valued and objective.config.value == "own" and is_adapted(model):
        raise BadSettings("--objective.value own: beside an adapter the second body would be a second model in memory. Say "
                          "--objective.value shared.")  # fmt: skip
    room = model.config.context - settings.max_tokens
    if room < 1:
        raise BadSettings(
            f"--rollouts.max_tokens {settings.max_tokens} leaves no room for a prompt: the model sees {model.config.context} "
            f"tokens at once."
        )
    mix = Mix(rewards)
    prompts = {
        split: read_prompts(part, objective, Frame(tokenizer, False, room, False), overlong) for split, part in documents.items()
    }
    if mix.needs_truth and (lacking := [at for at, truth in enumerate(prompts["train"].truths) if not truth.strip()]):
        raise BadSettings(
            f"the reward {mix.needs_truth[0]} compares with a known answer, and {len(lacking)} of {len(prompts['train'])} "
            f"prompts have none, the first at {prompts['train'].origin(lacking[0])}. Prepare them with --form verifiable, or "
            f"take another reward."
        )
    wanted = _reference(model, reference) if objective.pull or settings.measure_kl else None
    stops = frozenset(ends_of(tokenizer, *ends))
    if not stops:
        raise UnsupportedModel("nothing ends an answer: the tokenizer has no end-of-text token, and the chat template ends a "
                               "turn with none. Give --template chatml.")  # fmt: skip
    live = LiveEngine(Model(model, tokenizer, Path(), stops), rows=settings.rows)
    module = Valued(model, objective.config.value == "own") if objective.valued else model
    kept = Kept(folder / "rollouts" if folder else None, settings.updates, folder / "checkpoints" if folder else None)
    return module, RolloutBatches(
        prompts["train"], objective, settings, module, live, mix, kept, row_tokens, micro_tokens, seed,
        world, wanted, prompts.get("validation"),
    )  # fmt: skip


def bare(model: Any) -> Any:
    """The language model itself, without a value head around it."""
    return model.body if isinstance(model, Valued) else model


def _reference(model: CausalLM, given: Any) -> Reference:
    """What the model is held near to: the one given, itself without its adapter, or a copy of it as it begins."""
    if given is None and is_adapted(model):
        return lambda: _without_adapter(model)
    held = copy.deepcopy(model) if given is None else given.to(model.device)
    held.eval().requires_grad_(False)
    return lambda: standing(held)


@contextlib.contextmanager
def _without_adapter(model: CausalLM) -> Any:
    with disabled(model):
        yield model
