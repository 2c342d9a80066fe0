"""A model that is being judged: how likely it finds given continuations, and what it answers, many at once through the engine.

Same ids, same figures, whatever else is asked beside them and however many at once: to the last bit where the runner says
"exact" (the C kernels and `solo`), else within rounding. `plain` is the twin: one text after another, no engine.
"""

import contextlib
import queue
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from danlu.core import log
from danlu.core.errors import AnswerFault, BadInput, BadSettings, QueueFull
from danlu.engine.answer import Delta, Reader
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, Event, FaultEvent, PromptEvent, TokenEvent
from danlu.engine.job import Job, Ticket
from danlu.engine.model import Model
from danlu.engine.opening import Serving, open_engine
from danlu.engine.request import Sampling
from danlu.models.base import Seq2SeqLM

EXACT = Serving(weights="fp32", guess="off")
"""A measuring instrument takes no format of the weights that is merely good enough."""
_GREEDY = Sampling(temperature=0)


@dataclass(frozen=True)
class Pair:
    """What stands there and what is to be foreseen behind it, in ids. For an encoder-decoder `before` is what it reads."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Likelihood:
    """How likely a continuation is."""

    nats: float
    """Sum of its tokens' log-probabilities: zero or below."""
    greedy: bool
    """Whether each of its tokens is the likeliest at its place."""
    tokens: int


@dataclass(frozen=True)
class Answer:
    """What was written."""

    text: str
    ids: tuple[int, ...]
    """All tokens written, the one that ended it and those of a stop text included."""
    ended: bool
    """Whether the model or a stop text ended it, not the room it had."""


class Subject:
    """Use as a context manager: the engine is opened when first needed and closed at the end.

    live: the model's module is used as it is, weights and adapters of this moment included; else the fastest runner that the
    settings allow, which may have packed the weights once. Raises BadInput for a model that does not write.
    """

    def __init__(self, model: Model, serving: Serving = EXACT, live: bool = False):
        model.check_writes()
        self.model, self.tokenizer, self.context = model, model.tokenizer, model.context
        self._serving, self._live = serving, live
        self._engine: Engine | None = None

    def __enter__(self) -> "Subject":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the engine; another question opens it again, with the weights of that moment."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    @property
    def kernel(self) -> str:
        """What computes, in words."""
        return self._opened().runner.kernel

    @property
    def prefix(self) -> int:
        """The token before a text that has nothing before it: that before a document, else that after one."""
        found = self.tokenizer.bos_id if self.tokenizer.bos_id is not None else self.tokenizer.eos_id
        if found is None:
            raise BadInput(f"{self.model.path}: its tokenizer begins and ends no document, so a text alone cannot be foreseen.")
        return found

    def likelihoods(self, pairs: Sequence[Pair]) -> list[Likelihood]:
        """Of each pair. Raises BadInput for one with nothing before or after, or longer than the context and one token."""
        found: dict[int, Likelihood] = {}
        jobs, places = [], []
        for place, pair in enumerate(pairs):
            if not pair.before or not pair.after:
                raise BadInput("nothing stands before, or nothing is to be foreseen: give both texts at least one token.")
            if not self._seq2seq and len(pair.before) + len(pair.after) > self.context:
                found[place] = plain_likelihood(self.model, pair)  # the last token needs no room: it is foreseen, not read
            else:
                jobs.append(self._scored(pair))
                places.append(place)
        for at, _, event in self._asked(jobs):
            if isinstance(event, PromptEvent):
                assert event.logprobs is not None
                begin = jobs[at].scored_from
                told = list(zip(jobs[at].ids[begin:], event.logprobs[begin:], strict=True))
                nats = [logprob for _, (logprob, _) in told]
                likeliest = all(token == top[0][0] for token, (_, top) in told)
                found[places[at]] = Likelihood(float(np.sum(nats, dtype=np.float64)), likeliest, len(told))
        return [found[place] for place in range(len(pairs))]

    def answers(self, prompts: Sequence[Sequence[int]], sampling: Sampling = _GREEDY, room: int | Sequence[int] = 256,
                seeds: Sequence[int] | None = None) -> list[Answer]:  # fmt: skip
        """What it writes behind each prompt; room: most tokens. Raises BadInput where prompt and room exceed the context."""
        rooms = [room] * len(prompts) if isinstance(room, int) else list(room)
        settings = [sampling if seeds is None else sampling.model_copy(update={"seed": seed}) for seed in seeds or prompts]
        jobs = [self._written(tuple(prompt), one, most) for prompt, one, most in zip(prompts, settings, rooms, strict=True)]
        silent = frozenset() if sampling.ignore_eos else self.model.ends
        readers = [Reader(self.tokenizer, sampling.stop, 1, silent, job.ids) for job in jobs]
        texts: list[str] = [""] * len(jobs)
        ids: list[list[int]] = [[] for _ in jobs]
        found: dict[int, Answer] = {}
        for at, ticket, event in self._asked(jobs):
            if at in found:
                continue
            if isinstance(event, TokenEvent):
                ids[at].append(event.token)
            for made in readers[at].push(event):
                if isinstance(made, Delta):
                    texts[at] += made.text
                    if made.reason is not None:
                        ticket.cancel()
                        found[at] = Answer(texts[at], tuple(ids[at]), made.reason != "length")
        return [found[at] for at in range(len(jobs))]

    # ---- how

    @property
    def _seq2seq(self) -> bool:
        return isinstance(self.model.model, Seq2SeqLM)

    def _start(self) -> int:
        start = self.model.model.config.decoder_start_token_id
        return int(self.tokenizer.start_id if start is None else start)

    def _scored(self, pair: Pair) -> Job:
        if self._seq2seq:
            return Job((self._start(), *pair.after), _GREEDY, 0, prompt_logprobs=1, source=pair.before)
        return Job((*pair.before, *pair.after), _GREEDY, 0, prompt_logprobs=1, scored_from=len(pair.before))

    def _written(self, prompt: tuple[int, ...], sampling: Sampling, room: int) -> Job:
        if not prompt or room < 1 or (len(prompt) + room > self.context and not self._seq2seq):
            raise BadInput(
                f"a prompt of {len(prompt)} tokens and an answer of {room}: {self.model.path} has a context of {self.context}."
            )
        if self._seq2seq:
            return Job((self._start(),), sampling, min(room, self.context - 1), self.model.ends, source=prompt)
        return Job(prompt, sampling, room, self.model.ends)

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = self._open().start()
        return self._engine

    def _open(self) -> Engine:
        if not self._live:
            return open_engine(self.model, self._serving)
        for runner in ("packed", "solo"):  # neither keeps a copy of weights
            try:
                return open_engine(self.model, self._serving.model_copy(update={"runner": runner, "weights": "fp32"}))
            except BadSettings as error:
                why = error
        raise why

    def _asked(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Ticket, Event]]:
        """Events of all jobs as they come, with the job's number. Of those that share what stands before, one goes ahead: the
        others find it in the cache."""
        if not jobs:
            return
        engine = self._opened()
        came: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
        ready, behind = _in_order(jobs)
        tickets: dict[int, Ticket] = {}
        left = set(range(len(jobs)))
        with log.progress("ask", total=len(jobs), unit="texts") as bar:
            try:
                while left:
                    with contextlib.suppress(QueueFull):  # the rest goes in when others have ended
                        while ready and len(left & tickets.keys()) < 2 * self._serving.rows:  # or what is shared would be gone
                            tickets[ready[0]] = engine.submit(jobs[ready[0]], partial(_note, came, ready[0]))
                            ready.popleft()
                    at, event = came.get()
                    if isinstance(event, FaultEvent):
                        raise AnswerFault(event.kind, event.message)
                    yield at, tickets[at], event
                    if isinstance(event, EndEvent):
                        left.discard(at)
                        ready.extendleft(behind.pop(at, ()))
                        bar.advance(1)
            finally:
                for at in left & set(tickets):
                    tickets[at].cancel()


def _in_order(jobs: Sequence[Job]) -> tuple[deque[int], dict[int, list[int]]]:
    """Numbers of jobs that may go in at once, and those that wait for one of them; neighbours begin alike."""
    first: dict[tuple[int, ...], int] = {}
    behind: dict[int, list[int]] = {}
    for at in sorted(range(len(jobs)), key=lambda at: jobs[at].ids):
        job = jobs[at]
        leader = at if job.prompt_logprobs is None or job.source else first.setdefault(job.ids[: job.scored_from], at)
        if leader == at:
            behind[at] = []
        else:
            behind[leader].append(at)
    return deque(behind), behind


def _note(came: queue.SimpleQueue[tuple[int, Event]], at: int, event: Event) -> None:
    came.put((at, event))


@torch.inference_mode()
def plain_likelihood(model: Model, pair: Pair) -> Likelihood:
    """The definition: the whole text through the model, alone; its last token is foreseen and not read."""
    logp_AV = plain_logprobs(model, pair.before, pair.after)
    wanted = torch.tensor(pair.after, device=logp_AV.device)
    nats = logp_AV.gather(1, wanted[:, None]).double().sum()
    return Likelihood(float(nats), bool((logp_AV.argmax(-1) == wanted).all()), len(pair.after))


@torch.inference_mode()
def plain_logprobs(model: Model, before: Sequence[int], after: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of every token where each of `after` stands, float32 (A, V); padding of the table has none."""
    module: Any = model.model
    where = module.device
    if isinstance(module, Seq2SeqLM):
        start = module.config.decoder_start_token_id
        ids = [int(model.tokenizer.start_id if start is None else start), *after[:-1]]
        source = module.encode(torch.tensor([list(before)], device=where))
        hidden_AD = module.hidden(torch.tensor([ids], device=where), source_BSD=source)[0]
    else:
        ids_1T = torch.tensor([[*before, *after[:-1]]], device=where)
        if ids_1T.size(1) > model.context:
            raise BadInput(f"{ids_1T.size(1)} tokens do not fit the context of {model.path}, {model.context}. Cut them first.")
        hidden_AD = module.hidden(ids_1T)[0, len(before) - 1 :]
    known = min(model.model.vocab_size, model.tokenizer.vocab_size)
    return module.logits(hidden_AD).float()[:, :known].log_softmax(-1)
