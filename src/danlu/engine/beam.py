"""Beam search: the likeliest answers as a whole rather than the likeliest token at each step (as transformers' `num_beams`).

    beam_search(model, ids, beams, max_tokens, length_penalty=1.0, early_stopping=False, source=None) -> list[Beam]
        model            an opened Model (engine/model.py), of any family that writes
        ids              the prompt; for encoder-decoders what begins the answer, and `source` what the encoder reads
        early_stopping   False: stop when the best live beam is no longer better than the worst finished one at its length;
                         True: stop when `beams` answers have finished; "never": only when no beam can get better at all
    write_beams(model, text, beams, max_tokens=None, ...) -> list[Beam]      the same from text; Beam.text(tokenizer)
    engine_beams(engine, job, beams, ...) -> list[Beam]                      the same through an engine, among other requests
    best_of(logprobs, count) -> list[int]                                    answers by mean log-probability, best first

Nothing is drawn, so there is no temperature and no seed. B live beams, V vocabulary.
"""

import queue
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from danlu.core.errors import BadInput
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, Event, FaultEvent, TokenEvent
from danlu.engine.generate import answer_room
from danlu.engine.job import Job, Ticket
from danlu.engine.model import Model
from danlu.engine.request import Sampling
from danlu.engine.source import source_ids
from danlu.models.base import Seq2SeqLM
from danlu.tokenizer.tokenizer import Tokenizer

EarlyStopping = bool | Literal["never"]
Candidates = tuple[np.ndarray, np.ndarray]
"""The likeliest next tokens of one beam, int64, and the natural logarithms of their probabilities, float32; likeliest first."""


@dataclass(frozen=True)
class Beam:
    """A finished answer."""

    ids: tuple[int, ...]
    """Its tokens, the one that ended it included."""
    score: float
    """Sum of the natural logarithms of its tokens' probabilities, over length ** length_penalty."""
    ended: bool
    """Whether a token of the model's ended it; False: max_tokens did."""

    def text(self, tokenizer: Tokenizer) -> str:
        """The answer without the token that ended it."""
        return tokenizer.decode(self.ids[:-1] if self.ended else self.ids)


class BeamsFailed(Exception):
    """The engine could not compute a beam; `fault` says why."""

    def __init__(self, fault: FaultEvent):
        super().__init__(fault.message)
        self.fault = fault


def beam_search(model: Model, ids: Sequence[int], beams: int, max_tokens: int, length_penalty: float = 1.0,
                early_stopping: EarlyStopping = False, source: Sequence[int] | None = None) -> list[Beam]:  # fmt: skip
    """The `beams` best answers found, best first. Raises BadInput, PromptTooLong."""
    model.check_writes()
    answer_room(len(ids), max_tokens, model.context)
    search = _Search(beams, max_tokens, model.ends, length_penalty, early_stopping, model.tokenizer.vocab_size)
    reader = _Reader(model, ids, len(ids) + max_tokens, source)
    found = reader.begin(search.keep)
    while search.step(found):
        found = reader.go_on(search.parents, [answer[-1] for answer in search.live], search.keep)
    return search.done


def write_beams(model: Model, text: str, beams: int, max_tokens: int | None = None, length_penalty: float = 1.0,
                early_stopping: EarlyStopping = False) -> list[Beam]:  # fmt: skip
    """The best answers to a text. Raises BadInput, PromptTooLong."""
    model.check_writes()
    ids, source = model.encode(text), None
    if isinstance(model.model, Seq2SeqLM):
        start = model.model.config.decoder_start_token_id
        ids, source = [model.tokenizer.start_id if start is None else start], source_ids(model.tokenizer, text, model.context)
    room = answer_room(len(ids), max_tokens, model.context)
    return beam_search(model, ids, beams, room, length_penalty, early_stopping, source)


def engine_beams(engine: Engine, job: Job, beams: int, length_penalty: float = 1.0, early_stopping: EarlyStopping = False,
                 wanted: Callable[[], bool] = lambda: True) -> list[Beam]:  # fmt: skip
    """The best answers to a job's ids within its room. A step is one request of one token for each beam, and what beams have in
    common is found in the engine's blocks; runners without blocks read every beam anew, which is slow.

    Blocks the calling thread. wanted: asked before each step; False ends the search with what has finished. Of the job count
    ids, room, ends, adapter, owner, deadline and source. Raises BadInput, BeamsFailed, and what `Engine.submit` does.
    """
    search = _Search(beams, job.room, job.ends, length_penalty, early_stopping, engine.known)
    step = replace(job, sampling=Sampling(temperature=0), room=1, ends=frozenset(), choices=1, logprobs=search.keep,
                   prompt_logprobs=None, constraint=None)  # fmt: skip
    while wanted():
        asked = [replace(step, ids=(*job.ids, *answer)) for answer in search.live]
        if not search.step(_asked(engine, asked)):
            break
    return search.done


def best_of(logprobs: Sequence[Sequence[float]], count: int) -> list[int]:
    """Which of several drawn answers to keep: by the mean of their tokens' log-probabilities, best first; of equals the earlier.

    >>> best_of([[-1.0, -3.0], [-0.5], [-1.9, -2.1, -1.0]], 2)
    [1, 2]
    """
    means = [sum(values) / len(values) if values else float("-inf") for values in logprobs]
    return sorted(range(len(means)), key=lambda number: -means[number])[:count]


class _Search:
    """The search itself, whoever reads: `live` answers go in, their likeliest next tokens come back."""

    def __init__(self, beams: int, room: int, ends: Collection[int], length_penalty: float, early: EarlyStopping, known: int):
        spare = max(2, 1 + len(ends))  # so many for each beam that enough are left when the best of them end
        if not 1 <= beams <= known // spare:
            raise BadInput(f"{beams} beams: give 1 to {known // spare} for a vocabulary of {known} tokens.")
        self.keep = spare * beams
        """How many of the likeliest next tokens of each beam are looked at."""
        self.live: list[tuple[int, ...]] = [()]
        self.parents: list[int] = [0]
        """For each live beam, which of those before it goes on."""
        self.done: list[Beam] = []
        """The best that have finished, best first; of equals the earlier."""
        self._scores = np.zeros(1, np.float32)
        self._beams, self._room, self._ends, self._early, self._penalty = beams, room, frozenset(ends), early, length_penalty

    def step(self, found: Sequence[Candidates]) -> bool:
        """Go on by one token. False: the search is over."""
        tokens = np.concatenate([ids for ids, _ in found])
        parents = np.repeat(np.arange(len(found)), [len(ids) for ids, _ in found])
        scores = np.concatenate([logprobs for _, logprobs in found]).astype(np.float32) + self._scores[parents]
        best = np.argsort(-scores, kind="stable")[: self.keep].tolist()
        length = len(self.live[0]) + 1
        stops = [int(tokens[at]) in self._ends or length == self._room for at in best]
        for at, stop in list(zip(best, stops, strict=True))[: self._beams]:
            if stop:
                answer = (*self.live[parents[at]], int(tokens[at]))
                self._finish(Beam(answer, float(scores[at]) / length**self._penalty, answer[-1] in self._ends))
        going = [at for at, stop in zip(best, stops, strict=True) if not stop][: self._beams]
        if not going or ((full := len(self.done) == self._beams) and self._early is True):
            return False
        far = self._room if self._early == "never" and self._penalty > 0 else length
        if full and float(scores[going[0]]) / far**self._penalty <= self.done[-1].score:
            return False
        self.live = [(*self.live[parents[at]], int(tokens[at])) for at in going]
        self.parents, self._scores = [int(parents[at]) for at in going], scores[going]
        return True

    def _finish(self, beam: Beam) -> None:
        self.done = sorted([*self.done, beam], key=lambda beam: -beam.score)[: self._beams]


class _Reader:
    """The model with a state of one row for each live beam."""

    def __init__(self, model: Model, ids: Sequence[int], capacity: int, source: Sequence[int] | None):
        if isinstance(model.model, Seq2SeqLM) and source is None:
            raise BadInput(f"{model.path} is an encoder-decoder: give what its encoder reads as `source`.")
        self._model, self._known, self._source = model.model, model.tokenizer.vocab_size, source
        self._state = self._model.new_state(1, capacity)
        self._ids, self._both_ways = list(ids), model.both_ways

    @torch.inference_mode()
    def begin(self, keep: int) -> list[Candidates]:
        """Read the prompt."""
        more: dict[str, Tensor] = {}
        ids_1T = torch.tensor([self._ids], device=self._model.device)
        if self._source is not None:
            more["source_BSD"] = self._model.encode(torch.tensor([list(self._source)], device=self._model.device))
        if self._both_ways:
            more["prefix_BT"] = torch.ones_like(ids_1T, dtype=torch.bool)
        return self._read(ids_1T, keep, **more)

    @torch.inference_mode()
    def go_on(self, parents: Sequence[int], tokens: Sequence[int], keep: int) -> list[Candidates]:
        """Continue beam `parents[b]` with `tokens[b]`, for each new beam b."""
        self._state.reorder(torch.tensor(list(parents), device=self._model.device))
        return self._read(torch.tensor(list(tokens), device=self._model.device)[:, None], keep)

    def _read(self, ids_BT: Tensor, keep: int, **more: Tensor) -> list[Candidates]:
        hidden_BTD = self._model.hidden(ids_BT, state=self._state, **more)
        logprobs_BV = self._model.logits(hidden_BTD[:, -1])[:, : self._known].float().log_softmax(-1)
        values_BC, tokens_BC = (part.cpu().numpy() for part in logprobs_BV.topk(min(keep, self._known)))
        return list(zip(tokens_BC, values_BC, strict=True))


def _asked(engine: Engine, jobs: Sequence[Job]) -> list[Candidates]:
    """The likeliest next tokens of each job, from the engine."""
    told: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
    found: dict[int, Candidates] = {}
    tickets: list[Ticket] = []
    try:
        for number, job in enumerate(jobs):
            tickets.append(engine.submit(job, lambda event, number=number: told.put((number, event))))
        left = len(jobs)
        while left:
            number, event = told.get()
            if isinstance(event, FaultEvent):
                raise BeamsFailed(event)
            if isinstance(event, TokenEvent):
                tokens, logprobs = zip(*event.top, strict=True)
                found[number] = np.array(tokens, np.int64), np.array(logprobs, np.float32)
            left -= isinstance(event, EndEvent)
    except BaseException:
        for ticket in tickets:
            ticket.cancel()
        raise
    return [found[number] for number in range(len(jobs))]
