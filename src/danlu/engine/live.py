"""An engine over the very module that trains: what it writes comes from the weights as they are at that moment.

Roll-outs of policy objectives, on-policy distillation and best-of-n ask for many answers to many prompts, then the weights move.
Everything is computed in the thread that asks: torch's threads serve trainer and engine in turn and never at once, and which rows
share a step depends on what was asked and on nothing else. Nothing read under old weights is found again.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from danlu.core.errors import BadInput
from danlu.core.seeds import derive
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, Event, FaultEvent, Reason, TokenEvent
from danlu.engine.generate import answer_room
from danlu.engine.job import Job, Ticket
from danlu.engine.model import Model
from danlu.engine.request import Sampling
from danlu.engine.runners import native, packed, recurrent
from danlu.engine.runners.solo import SoloRunner
from danlu.engine.scheduler import Limits
from danlu.engine.work import Runner
from danlu.models.base import Seq2SeqLM
from danlu.nn.linear import Linear, lay_on
from danlu.nn.small_frozen import SmallFrozen

Kind = Literal["native", "packed", "recurrent", "solo"]


@dataclass(frozen=True)
class Written:
    """One answer."""

    ids: list[int]
    """Its tokens, the one that ended it included."""
    logprobs: list[float]
    """Of each the natural logarithm of its probability, before sampling changed it."""
    reason: Reason
    """eos: the model ended it; length: it ran out of tokens."""


class LiveEngine:
    """Writes with a module whose weights change between two calls of `write`.

    rows: answers written at the same time. step_tokens: most tokens of a step, of prompts mostly. kind: which runner computes;
    None: as `kind_for` says at each call.
    """

    def __init__(self, model: Model, rows: int = 64, step_tokens: int = 1024, kind: Kind | None = None):
        self.model, self.rows, self.step_tokens, self.kind = model, rows, step_tokens, kind
        self._runner: Any = None
        self._made: tuple[Kind, int] | None = None

    def write(self, prompts: Sequence[Sequence[int]], sampling: Sampling, choices: int = 1, seed: int = 0,
              first: int = 0) -> list[list[Written]]:  # fmt: skip
        """`choices` answers to each prompt: a pure function of the weights, the prompt, its number and the seed.

        first: the number of the first prompt, where others write those before it. Numbers of a runner whose `kernel` is not
        exact may differ in the last digits with what else is written at the same time. Raises PromptTooLong, BadInput.
        """
        if not prompts:
            return []
        training = self.model.model.training
        self.model.model.eval()
        try:
            return self._write(prompts, sampling, choices, seed, first)
        finally:
            self.model.model.train(training)

    def _write(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, choices: int, seed: int, first: int
    ) -> list[list[Written]]:
        rooms = [answer_room(len(ids), sampling.max_tokens, self.model.context) for ids in prompts]
        rows = min(self.rows, len(prompts) * choices)
        runner = self._current(rows, max(len(ids) + room for ids, room in zip(prompts, rooms, strict=True)))
        notes = [_Notes(choices) for _ in prompts]
        jobs = [
            Job(tuple(ids), sampling.model_copy(update={"seed": derive(seed, "prompt", first + at)}), room, self.model.ends,
                choices, logprobs=0)
            for at, (ids, room) in enumerate(zip(prompts, rooms, strict=True))
        ]  # fmt: skip
        known = min(runner.vocab_size, self.model.tokenizer.vocab_size)
        _Here(runner, known, Limits(rows, self.step_tokens, waiting=0)).answer(jobs, notes)
        return [one.written() for one in notes]

    def _current(self, rows: int, longest: int) -> Runner:
        """The runner with the weights of now, and room for so many rows of such a length."""
        kind = self.kind or kind_for(self.model)
        block_tokens = {"native": native.BLOCK_TOKENS, "packed": packed.BLOCK_TOKENS}.get(kind, 0)
        blocks = rows * -(-longest // block_tokens) if block_tokens else 0
        with folded(self.model.model) if kind == "native" else contextlib.nullcontext():
            if self._made is None or self._made[0] != kind or self._made[1] < blocks or not block_tokens:
                self._runner, self._made = None, None  # gives its memory back first
                self._runner, self._made = _runner(kind, self.model, blocks), (kind, blocks)
            elif kind == "native":
                self._runner.refresh(self.model)
        return self._runner  # type: ignore[no-any-return]


def kind_for(model: Model) -> Kind:
    """Which runner writes fastest with weights that have just changed.

    Native where it computes what trains: float32, and nothing on the layers that could not be one matrix with them. It packs the
    weights anew at every call: 2 ms for a million, 60 ms for ten million, less than what it saves on the first hundred tokens.
    Else torch with the module itself.
    """
    module = model.model
    if getattr(module, "ahead", 0):  # something learned stands before every text (prompt and prefix tuning)
        return "solo"
    if module.compute_dtype in (None, torch.float32) and _foldable(module):
        with _without_adapter(module):
            if native.unfit(model) is None:
                return "native"
    if packed.unfit(model) is None:
        return "packed"
    return "recurrent" if recurrent.unfit(model) is None else "solo"


def _foldable(module: nn.Module) -> bool:
    """Whether what lies on the layers can become one matrix with each."""
    laid = [part for part in module.modules() if getattr(part, "added", None) is not None]
    return all(type(part) is Linear for part in laid) and not any(isinstance(part, SmallFrozen) for part in module.modules())


@contextlib.contextmanager
def _without_adapter(module: nn.Module) -> Iterator[None]:
    """Within, the adapter is no part of the module; what it laid on layers stays."""
    adapter = module._modules.pop("adapter", None)
    try:
        yield
    finally:
        if adapter is not None:
            module._modules["adapter"] = adapter


@contextlib.contextmanager
def folded(module: nn.Module) -> Iterator[None]:
    """Within, each layer's weight is what layer and adapter compute together; afterwards the weights are the ones they were."""
    laid = [part for part in module.modules() if type(part) is Linear and part.added is not None]
    before = [(part, part.weight.data, part.added) for part in laid]
    try:
        with torch.no_grad():
            for part in laid:
                eye = torch.eye(part.weight.size(1), device=part.weight.device)
                whole = part(eye).t().contiguous()
                if part.bias is not None:
                    whole -= part.bias[:, None]
                lay_on(part, None)
                part.weight.data = whole
        with _without_adapter(module):
            yield
    finally:
        for part, weight, added in before:
            part.weight.data = weight
            lay_on(part, added)


def _runner(kind: Kind, model: Model, blocks: int) -> Runner:
    if isinstance(model.model, Seq2SeqLM):
        raise BadInput(f"{model.model.config.name} reads one text and writes another: it does not write on from a prompt.")
    if kind == "native":
        return native.NativeRunner(model, "fp32", blocks=blocks)
    if kind == "packed":
        return packed.PackedRunner(model, blocks)
    return recurrent.RecurrentRunner(model) if kind == "recurrent" else SoloRunner(model)


class _Notes:
    """Listens to the answers to one prompt."""

    def __init__(self, choices: int):
        self._choices = [Written([], [], "cancelled") for _ in range(choices)]
        self._fault: FaultEvent | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, TokenEvent):
            self._choices[event.choice].ids.append(event.token)
            self._choices[event.choice].logprobs.append(event.logprob or 0.0)
        elif isinstance(event, EndEvent):
            self._choices[event.choice] = replace(self._choices[event.choice], reason=event.reason)
        elif isinstance(event, FaultEvent):
            self._fault = event

    def written(self) -> list[Written]:
        if self._fault is not None:
            raise BadInput(f"an answer could not be written: {self._fault.message} Look at the warning above, and at the last "
                           f"steps of the run: weights that are no numbers write nothing.")  # fmt: skip
        return self._choices


class _Here(Engine):
    """An engine that works in the thread that asks, and ends when there is nothing left to do."""

    def answer(self, jobs: Sequence[Job], listeners: Sequence[_Notes]) -> None:
        """All are taken in before the first step, so that steps depend on the jobs alone."""
        for job, listener in zip(jobs, listeners, strict=True):
            self._check(job)
            self._came.append(Ticket(job, listener))
        self._admit()
        while self._scheduler.running or self._scheduler.waiting:
            self._step()
