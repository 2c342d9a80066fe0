"""Danlu's own engine, in this process: many prompts at once, each answered as if it were alone."""

import queue
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from danlu.core.errors import AnswerFault, BadInput, QueueFull
from danlu.core.settings import Named
from danlu.engine.answer import Delta, Reader
from danlu.engine.backends import BACKENDS, Answer, Prompt
from danlu.engine.backends.ids import check_fits, check_pair, pair_ids, prompt_ids
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, Event, FaultEvent, PromptEvent
from danlu.engine.generate import answer_room
from danlu.engine.heads import HeadedModel
from danlu.engine.job import Job, Ticket
from danlu.engine.model import Model, load
from danlu.engine.opening import Serving, open_engine
from danlu.engine.request import Sampling
from danlu.engine.source import source_ids
from danlu.models.base import Seq2SeqLM

_PAUSE_S = 0.01
"""How long to wait where all places are taken by others."""


@BACKENDS.register
class Local:
    """See Backend."""

    class Config(Named):
        name: Literal["local"] = "local"
        path: Path
        """Folder of the model."""
        serving: Serving = Serving()
        """How it is run."""

    def __init__(self, config: Config):
        self.model = load(config.path)
        self._serving = config.serving
        self._engine: Engine | None = None

    def write(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Answer]:
        """See Backend.write."""
        model = self._language_model("writes no texts")
        jobs = [self._job(model, prompt, sampling) for prompt in prompts]
        silent = frozenset() if sampling.ignore_eos else model.ends  # of an end that does not end, the text counts
        readers = [Reader(model.tokenizer, sampling.stop, 1, silent, job.ids) for job in jobs]
        texts, answers = [""] * len(jobs), dict[int, Answer]()
        for index, ticket, event in self._asked(model, jobs):
            for made in readers[index].push(event):
                if isinstance(made, Delta):
                    texts[index] += made.text
                if isinstance(made, Delta) and made.reason is not None:
                    ticket.cancel()
                    job = jobs[index]
                    read = len(job.ids if job.source is None else job.source)
                    answers[index] = Answer(texts[index], "length" if made.reason == "length" else "stop", read, made.used)
        return [answers[index] for index in range(len(jobs))]

    def score(self, texts: Sequence[tuple[str, str]]) -> list[list[float]]:
        """See Backend.score."""
        model = self._language_model("foresees no texts")
        asked = [self._pair(model, first, second) for first, second in texts]
        jobs = [Job(tuple(ids), Sampling(), room=0, prompt_logprobs=0, source=source) for ids, _, source in asked]
        found: dict[int, list[float]] = {}
        for index, _, event in self._asked(model, jobs):
            if isinstance(event, FaultEvent):
                raise AnswerFault(event.kind, event.message)
            if isinstance(event, PromptEvent):
                assert event.logprobs is not None
                found[index] = [float(logprob or 0.0) for logprob, _ in event.logprobs[asked[index][1] :]]
        return [found[index] for index in range(len(jobs))]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """See Backend.embed."""
        if not isinstance(self.model, HeadedModel):
            raise BadInput(
                f"{self.model.path} makes no vectors: it writes. Train a head with danlu finetune --objective.name contrast."
            )
        return self.model.embed(texts)

    def close(self) -> None:
        """See Backend.close."""
        if self._engine is not None:
            self._engine.close()

    def _language_model(self, lacks: str) -> Model:
        if isinstance(self.model, HeadedModel):
            raise BadInput(f"{self.model.path} {lacks}: it has a head for another task ({self.model.task}).")
        self.model.check_writes()
        return self.model

    def _job(self, model: Model, prompt: Prompt, sampling: Sampling) -> Job:
        if isinstance(model.model, Seq2SeqLM):
            if not isinstance(prompt, str):
                model.check_goes_on()
            source = tuple(source_ids(model.tokenizer, str(prompt), model.context))
            ids = self._start(model)
            return Job(ids, sampling, answer_room(len(ids), sampling.max_tokens, model.context), model.ends, source=source)
        ids = tuple(prompt_ids(model.tokenizer, prompt))
        return Job(ids, sampling, answer_room(len(ids), sampling.max_tokens, model.context), model.ends)

    def _pair(self, model: Model, first: str, second: str) -> tuple[list[int], int, tuple[int, ...] | None]:
        source = None
        if isinstance(model.model, Seq2SeqLM):
            check_pair(first, second)
            source = tuple(source_ids(model.tokenizer, first, model.context))
            ids, begin = [*self._start(model), *model.tokenizer.encode(second)], 1
        else:
            ids, begin = pair_ids(model.tokenizer, first, second)
        check_fits(ids, model.context)
        return ids, begin, source

    def _start(self, model: Model) -> tuple[int]:
        start = model.model.config.decoder_start_token_id
        return (model.tokenizer.start_id if start is None else start,)

    def _asked(self, model: Model, jobs: Sequence[Job]) -> Iterator[tuple[int, Ticket, Event]]:
        """Events of all jobs as they come, with the job's number; the engine has no more of them waiting than it takes."""
        if self._engine is None:
            self._engine = open_engine(model, self._serving).start()
        came: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
        tickets: dict[int, Ticket] = {}
        left, next_one = set(range(len(jobs))), 0
        try:
            while left:
                while next_one < len(jobs):
                    try:
                        tickets[next_one] = self._engine.submit(jobs[next_one], partial(_note, came, next_one))
                    except QueueFull:
                        break  # it goes in when another has ended
                    next_one += 1
                try:
                    index, event = came.get(timeout=None if tickets.keys() & left else _PAUSE_S)
                except queue.Empty:
                    continue
                yield index, tickets[index], event
                if isinstance(event, (EndEvent, FaultEvent)):
                    left.discard(index)
        finally:
            for index in left & set(tickets):
                tickets[index].cancel()


def _note(came: queue.SimpleQueue[tuple[int, Event]], index: int, event: Event) -> None:
    came.put((index, event))
