"""The engine: one thread that plans a step, has it computed, chooses tokens and tells listeners, again and again.

Everything that takes long and is not arithmetic (templates, JSON, text) happens on other threads; requests come in by `submit`
and go out as events. One request's failure ends that request alone. See scheduler.py for who comes when, work.py for what a
step is, choose.py for the choice of tokens, answer.py for text.
"""

import contextlib
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from danlu.core import log
from danlu.core.errors import BadInput, EngineClosed, QueueFull
from danlu.engine.blocks import BlockPool
from danlu.engine.choose import Ask, Chosen, choose, logprobs
from danlu.engine.draw import NoToken
from danlu.engine.events import EndEvent, Event, FaultEvent, PromptEvent, Reason, TokenEvent
from danlu.engine.job import Job, Ticket
from danlu.engine.scheduler import Limits, Scheduler
from danlu.engine.sequence import Sequence as Written
from danlu.engine.speculate import Drafter
from danlu.engine.work import Piece, RowFault, Runner

_MOST_SHOWN = 64
"""Answers that `status` lists."""

_IDLE_S = 0.5
"""How long the thread sleeps when nothing is asked of it, before it looks at deadlines again."""


@dataclass(frozen=True)
class Status:
    """What the engine is doing; a copy, safe to read from any thread."""

    alive: bool
    stalled_s: float
    """Seconds since the last step ended, while there is work; 0 when idle."""
    running: int
    waiting: int
    blocks: int
    blocks_used: int
    steps: int
    prompt_tokens: int
    """Read in all, found ones not counted."""
    generated_tokens: int
    queried_tokens: int
    """Prompt tokens looked for in blocks of earlier requests."""
    found_tokens: int
    preemptions: int
    drafted_tokens: int
    accepted_tokens: int
    requests: tuple[dict[str, object], ...] = ()
    """One line a running or waiting answer: row, choice, owner's place in line, tokens; no text."""


@dataclass
class _Open:
    """A request that has not ended."""

    left: int
    """Choices that have not ended."""
    prompted: bool = False
    """Whether its prompt has been reported as read."""


@dataclass
class _Counters:
    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


class Engine:
    """Serves one model. Use as a context manager, or `start` and `close`.

    known: tokens that text is made of; rows of logits beyond are padding.
    """

    def __init__(self, runner: Runner, known: int, limits: Limits, drafter: Drafter | None = None, most_drafts: int = 4,
                 lock: contextlib.AbstractContextManager[object] | None = None):  # fmt: skip
        self.runner, self.known, self.limits = runner, known, limits
        self.pool = BlockPool(runner.blocks, runner.block_tokens) if runner.blocks else None
        self._drafter, self._most_drafts = drafter, most_drafts
        self._lock = lock or contextlib.nullcontext()
        self._scheduler = Scheduler(limits, self.pool, runner.whole_prompts, self._forget)
        self._came: deque[Ticket] = deque()
        self._later: dict[Ticket, list[Written]] = {}
        self._open: dict[Ticket, _Open] = {}
        self._bell = threading.Condition()
        self._closing: float | None = None
        self._crashed = False
        self._count = _Counters()
        self._seen = self._look()
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._work, name="danlu-engine", daemon=True)

    # ---- from any thread -------------------------------------------------------------------------------------------------

    def start(self) -> "Engine":
        """Begin to work."""
        self._thread.start()
        return self

    def __enter__(self) -> "Engine":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, job: Job, listener: Callable[[Event], None]) -> Ticket:
        """Take a request. Raises QueueFull, EngineClosed, or BadInput for one that could never run."""
        self._check(job)
        ticket = Ticket(job, listener)
        with self._bell:
            if self._closing is not None or self._crashed or not self._thread.is_alive():
                raise EngineClosed("the engine is stopping and takes no more requests. Ask again once it has restarted.")
            waiting = self._seen.waiting + sum(one.job.choices for one in self._came)
            if waiting + job.choices > self.limits.waiting:
                raise QueueFull(
                    f"{waiting} answers wait already and {self.limits.waiting} may: ask again in a moment, or raise --waiting."
                )
            self._came.append(ticket)
            self._bell.notify()
        return ticket

    def wake(self) -> None:
        """Look at cancelled tickets now."""
        with self._bell:
            self._bell.notify()

    def status(self) -> Status:
        """How it goes."""
        since = self._busy_since
        return replace(
            self._seen, alive=self._thread.is_alive() and not self._crashed,
            stalled_s=0.0 if since is None else time.monotonic() - since,
        )  # fmt: skip

    def close(self, drain_s: float = 0.0) -> None:
        """Take no more requests, go on for up to `drain_s` seconds with those that are here, then end the rest with a fault."""
        with self._bell:
            self._closing = time.monotonic() + drain_s
            self._bell.notify()
        if self._thread.is_alive():
            self._thread.join()

    # ---- the engine's thread ---------------------------------------------------------------------------------------------

    def _look(self) -> Status:
        """What other threads may see until the next step: they never touch queues that this one changes."""
        scheduler, count, pool = self._scheduler, self._count, self.pool
        now, later = time.monotonic(), sum(map(len, self._later.values()))
        rows = tuple(
            {"row": one.row, "choice": one.choice, "prompt_tokens": one.prompt, "tokens": one.written, "held": one.held,
             "state": "waiting" if one.row < 0 else "reading" if one.reading else "writing",
             "cached": one.cached, "adapter": one.ticket.job.adapter, "age_s": round(now - one.ticket.submitted, 3)}
            for one in scheduler.everything()[:_MOST_SHOWN]
        )  # fmt: skip
        return Status(
            alive=True, stalled_s=0.0, running=len(scheduler.running), waiting=scheduler.waiting + later,
            blocks=pool.blocks if pool else 0, blocks_used=pool.used if pool else 0,
            steps=count.steps, prompt_tokens=count.prompt_tokens, generated_tokens=count.generated_tokens,
            queried_tokens=pool.queried_tokens if pool else 0, found_tokens=pool.found_tokens if pool else 0,
            preemptions=scheduler.preemptions, drafted_tokens=count.drafted_tokens, accepted_tokens=count.accepted_tokens,
            requests=rows,
        )  # fmt: skip

    def _check(self, job: Job) -> None:
        if not job.ids:
            raise BadInput("the prompt is empty: give at least one token.")
        total = len(job.ids) + job.room
        if self.pool and self.pool.needed(total) > self.pool.blocks:
            room = self.pool.blocks * self.pool.block_tokens
            raise BadInput(
                f"prompt and answer may have {total} tokens, but the cache has room for {room} in all. Ask for fewer tokens, or "
                f"give the server a larger --cache_tokens."
            )
        if not 1 <= job.scored_from <= len(job.ids):
            raise BadInput(f"log-probabilities from token {job.scored_from} on: the prompt has tokens 1 to {len(job.ids)}.")
        if job.source is not None and not hasattr(self.runner, "sources"):
            raise BadInput("this model has no encoder, so there is nothing that reads a source.")
        if self.runner.whole_prompts and job.prompt_logprobs is not None:
            raise BadInput("this model reads its prompt both ways, so the prompt's own tokens have no log-probabilities.")

    def _forget(self, row: int) -> None:
        self.runner.forget(row)
        if self._drafter:
            self._drafter.forget(row)

    def _work(self) -> None:
        try:
            while self._wait():
                self._step()
        except BaseException:  # the thread must not die in silence: the server turns unhealthy
            log.warn("the engine stopped: " + traceback.format_exc())
            self._crashed = True
        finally:
            kind = "internal" if self._crashed else "shutdown"
            message = "the engine has stopped" if self._crashed else "the server is stopping"
            with self._bell:
                tickets = {*self._open, *self._came}
            for ticket in tickets:
                self._tell(ticket, FaultEvent(kind, f"{message}; ask again later."))  # type: ignore[arg-type]

    def _wait(self) -> bool:
        """Take in what has come. False: it is time to stop."""
        with self._bell:
            while True:
                self._admit()
                self._sweep()
                self._seen = self._look()
                busy = bool(self._scheduler.running or self._scheduler.waiting)
                if self._closing is not None and (not busy or time.monotonic() >= self._closing):
                    return False
                if busy:
                    self._busy_since = self._busy_since or time.monotonic()
                    return True
                self._busy_since = None
                self._bell.wait(_IDLE_S)

    def _admit(self) -> None:
        while self._came:
            ticket = self._came.popleft()
            first, *others = (Written(ticket, choice) for choice in range(ticket.job.choices))
            self._open[ticket] = _Open(ticket.job.choices)
            self._scheduler.add(first)
            if others and self.pool:
                self._later[ticket] = others  # they find the prompt's blocks once the first has read it
            else:
                for other in others:
                    self._scheduler.add(other)

    def _sweep(self) -> None:
        """End what was cancelled or has run out of time."""
        now = time.monotonic()
        for one in self._scheduler.everything():
            if one.ticket.job.deadline is not None and now >= one.ticket.job.deadline:
                self._fail(one.ticket, FaultEvent("deadline", "the answer was not finished within the time that a request has."))
            elif not one.ticket.wanted(one.choice):
                self._end(one, "cancelled")

    def _step(self) -> None:
        plan = self._scheduler.plan()
        if not plan:
            return
        for one, _ in plan:
            if one.held == 0 and one.ticket.job.source is not None:
                self.runner.sources[one.row] = one.ticket.job.source  # type: ignore[attr-defined]
        pieces = [self._piece(one, count) for one, count in plan]
        logits = self._computed(plan, pieces)
        self._count.steps += 1
        self._busy_since = time.monotonic()
        done = zip(plan, pieces, logits)
        going = [(one, piece, found) for (one, _), piece, found in done if found is not None and one.row >= 0]
        for one, piece, found in going:
            self._read(one, piece, found)
        self._write([(one, found) for one, piece, found in going if one.row >= 0 and piece.want and one.held >= one.length])

    def _piece(self, one: Written, count: int) -> Piece:
        fresh = np.concatenate([one.ids[one.held : one.length], one.drafts])[:count]
        writes = one.held + count >= one.length and one.ticket.job.room > 0
        behind = one.held + count - one.ticket.job.scored_from + 1  # what foresees a token whose log-probability is wanted
        want = min(max(behind, 0), count) if one.scored and not one.told else 1 + len(one.drafts) if writes else 0
        return Piece(one.row, fresh, one.held, np.asarray(one.blocks, np.int32), want, one.ticket.job.adapter)

    def _computed(self, plan: list[tuple[Written, int]], pieces: list[Piece]) -> list[np.ndarray | None]:
        """Logits of each piece; None for one that failed, whose request has ended."""
        try:
            with self._lock:
                return list(self.runner.run(pieces))
        except Exception as error:
            if len(pieces) == 1:
                self._fault(plan[0][0], error)
                return [None]
        found: list[np.ndarray | None] = []  # who was it? each alone
        for (one, count), piece in zip(plan, pieces):
            found += self._computed([(one, count)], [piece])
        return found

    def _fault(self, one: Written, error: Exception) -> None:
        job = one.ticket.job
        if isinstance(error, NoToken) and (job.constraint is not None or job.sampling.logit_bias):
            return self._fail(one.ticket, FaultEvent("request", f"{error}."))
        if isinstance(error, RowFault):
            log.warn(f"an answer could not be computed: {error}")
        else:
            log.warn("an answer could not be computed: " + "".join(traceback.format_exception(error)))
        self._fail(one.ticket, FaultEvent("internal", "the model could not compute this request; others go on."))

    def _read(self, one: Written, piece: Piece, logits: np.ndarray) -> None:
        """Note what the runner holds now."""
        real = min(len(piece.ids), one.length - one.held)
        if one.scored and not one.told:
            self._score(one, logits, real - len(logits))
        if not one.told:
            self._count.prompt_tokens += real
        one.held += real
        if self.pool:
            one.seal(self.pool)
        if not one.told and one.held >= one.prompt:
            self._prompt_read(one)

    def _prompt_read(self, one: Written) -> None:
        one.told = True
        state = self._open[one.ticket]
        if not state.prompted:
            state.prompted = True
            self._tell(one.ticket, PromptEvent(one.prompt, one.cached, tuple(one.scores) if one.scored else None))
        for other in self._later.pop(one.ticket, []):
            self._scheduler.add(other, first=True)
        if one.ticket.job.room == 0:
            self._end(one, "length")

    def _score(self, one: Written, logits: np.ndarray, first: int) -> None:
        """Log-probabilities of the prompt's next tokens under the logits of those just read, of which `first` have none; again
        after a preemption: none."""
        one.scores = one.scores or [(None, ())] * one.ticket.job.scored_from
        foreseen = one.held + 1 + first
        begin, end = max(foreseen, len(one.scores)), min(foreseen + len(logits), one.prompt)
        if begin < end:
            rows = logits[begin - foreseen : end - foreseen, : self.known]
            most = one.ticket.job.prompt_logprobs or 0
            one.scores += [logprobs(row, int(token), most) for row, token in zip(rows, one.ids[begin:end])]

    def _write(self, ready: list[tuple[Written, np.ndarray]]) -> None:
        """Choose the next tokens, one place at a time: the place after the last token first, then those after right guesses."""
        place = 0
        drafted = {one: one.drafts for one, _ in ready}
        rows = {one: logits[-(1 + len(one.drafts)) :] for one, logits in ready}
        while ready:
            asks = [self._ask(one) for one, _ in ready]
            chosen = choose([rows[one][place] for one, _ in ready], asks, self.known)
            going = []
            for (one, logits), found in zip(ready, chosen):
                if one.row < 0:  # it has ended with another choice of its request that failed
                    continue
                if isinstance(found, Exception):
                    self._fault(one, found)
                elif self._take(one, found) and place < len(drafted[one]) and drafted[one][place] == found.token:
                    one.held += 1
                    self._count.accepted_tokens += 1
                    going.append((one, logits))
            ready = going
            place += 1
        for one, guesses in drafted.items():
            self._after_guesses(one, guesses)

    def _after_guesses(self, one: Written, guesses: np.ndarray) -> None:
        one.drafts = guesses[:0]
        self._count.drafted_tokens += len(guesses)
        if one.row < 0:
            return
        if len(guesses):
            if self.pool:
                one.seal(self.pool)
            elif not self.runner.rewind(one.row, one.held):
                self.runner.forget(one.row)
                one.held = 0
        if self._drafter and not one.reading:
            room = one.ticket.job.room - one.written - 1
            one.drafts = self._drafter.propose(one.row, one.ids[: one.length], min(self._most_drafts, max(room, 0)))

    def _ask(self, one: Written) -> Ask:
        job = one.ticket.job
        mask = one.constraint.mask() if one.constraint else None
        return Ask(
            sampling=job.sampling, seed=one.seed, step=one.written, ids=one.ids[: one.length], begin=one.prompt,
            ends=one.ends, allowed=mask, logprobs=job.logprobs,
        )  # fmt: skip

    def _take(self, one: Written, found: Chosen) -> bool:
        """Note a chosen token. False: the answer has ended with it."""
        one.ids[one.length] = found.token
        one.written += 1
        self._count.generated_tokens += 1
        ended = found.token in one.ends and not one.ticket.job.sampling.ignore_eos
        complete = bool(one.constraint and one.constraint.accept(found.token))
        self._tell(one.ticket, TokenEvent(one.choice, found.token, found.logprob, found.top))
        full = one.written >= one.ticket.job.room
        reason: Reason | None = "eos" if ended else "stop" if complete else "length" if full else None
        if reason:
            self._end(one, reason)
        return reason is None

    def _end(self, one: Written, reason: Reason) -> None:
        self._scheduler.remove(one)
        for other in self._later.pop(one.ticket, []):
            self._scheduler.add(other, first=True)
        self._tell(one.ticket, EndEvent(one.choice, reason))
        state = self._open[one.ticket]
        state.left -= 1
        if not state.left:
            del self._open[one.ticket]

    def _fail(self, ticket: Ticket, fault: FaultEvent) -> None:
        for one in [one for one in self._scheduler.everything() if one.ticket is ticket]:
            self._scheduler.remove(one)
        self._later.pop(ticket, None)
        if self._open.pop(ticket, None) is not None:
            self._tell(ticket, fault)

    def _tell(self, ticket: Ticket, event: Event) -> None:
        try:
            ticket.listener(event)
        except Exception:
            log.warn("a listener failed: " + traceback.format_exc())
            ticket.cancel()
