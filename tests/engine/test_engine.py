"""The engine: whatever else runs, however memory is cut and shared, each answer is the one it would be alone."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.fake_runner import VOCAB, FakeRunner, next_logits, written

from danlu.core.errors import BadInput, EngineClosed, QueueFull
from danlu.engine.draw import pick
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, FaultEvent, PromptEvent, TokenEvent
from danlu.engine.job import Job
from danlu.engine.request import Sampling
from danlu.engine.scheduler import Limits
from danlu.engine.work import RowFault

GREEDY = Sampling(temperature=0)
PROMPTS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20)


class Ear:
    """A listener that can be waited for."""

    def __init__(self, choices=1):
        self.events, self._left, self._done = [], choices, threading.Event()

    def __call__(self, event):
        self.events.append(event)
        if isinstance(event, EndEvent):
            self._left -= 1
        if self._left == 0 or isinstance(event, FaultEvent):
            self._done.set()

    def wait(self):
        assert self._done.wait(20), self.events
        return self

    def ids(self, choice=0):
        return [event.token for event in self.events if isinstance(event, TokenEvent) and event.choice == choice]

    def reasons(self):
        return {event.choice: event.reason for event in self.events if isinstance(event, EndEvent)}


def engine_of(runner=None, rows=4, batch_tokens=16, waiting=64, **more):
    return Engine(runner or FakeRunner(), VOCAB, Limits(rows, batch_tokens, waiting), **more)


def settled(engine):
    """What the engine shows once it has looked at itself after its last step."""
    for _ in range(500):
        if not engine.status().running:
            break
        time.sleep(0.002)
    return engine.status()


def asked(engine, *jobs):
    ears = [Ear(job.choices) for job in jobs]
    with engine._bell:  # all come at once, however busy the machine is
        for job, ear in zip(jobs, ears):
            engine.submit(job, ear)
    return [ear.wait() for ear in ears]


@settings(max_examples=25, deadline=None)
@given(
    jobs=st.lists(st.tuples(PROMPTS, st.integers(1, 12)), min_size=1, max_size=8),
    rows=st.integers(1, 5),
    batch_tokens=st.integers(1, 20),
    blocks=st.integers(8, 24),
    shared=st.integers(0, 9),
)
def test_every_answer_is_the_one_it_would_be_alone(jobs, rows, batch_tokens, blocks, shared):
    begin = [7] * shared  # cut into blocks that requests find of one another
    with engine_of(FakeRunner(blocks), rows, batch_tokens) as engine:
        wanted = [Job((*begin, *ids)[:20], GREEDY, room) for ids, room in jobs]
        for job, ear in zip(wanted, asked(engine, *wanted)):
            assert [*job.ids, *ear.ids()] == written(job.ids, job.room)
            assert ear.reasons() == {0: "length"}
        assert engine.pool.used == 0 and settled(engine).running == 0


def test_chance_follows_seed_and_step_alone():
    sampling = Sampling(temperature=1.3, top_k=9, seed=5)
    with engine_of(rows=3) as engine:
        jobs = [Job((3, 1, 4, n), sampling, 9) for n in range(6)]
        for job, ear in zip(jobs, asked(engine, *jobs)):
            alone = list(job.ids)
            for step in range(9):
                alone.append(pick(next_logits(alone), np.array(alone), sampling.chain(), 5, step))
            assert [*job.ids, *ear.ids()] == alone


def test_a_preempted_answer_goes_on_as_if_nothing_had_happened():
    runner = FakeRunner(blocks=9)
    with engine_of(runner, rows=4) as engine:
        jobs = [Job((n, 2, 3, 4, 5), GREEDY, 20) for n in range(4)]  # 4 x 7 blocks are wanted, 9 are there
        for job, ear in zip(jobs, asked(engine, *jobs)):
            assert [*job.ids, *ear.ids()] == written(job.ids, 20)
        assert settled(engine).preemptions > 0


def test_a_long_prompt_does_not_stop_those_who_write():
    runner = FakeRunner(blocks=40)
    with engine_of(runner, batch_tokens=4) as engine:
        writer, reader = Job((1, 2), GREEDY, 30), Job(tuple(range(20)), GREEDY, 2)
        asked(engine, writer, reader)
    mixed = [step for step in runner.steps if len(step) == 2]
    assert all(sum(step) <= 4 for step in runner.steps)
    assert any(1 in step and max(step) > 1 for step in mixed)  # a step that reads and writes


def test_an_equal_beginning_is_read_once():
    with engine_of() as engine:
        prompt = tuple(range(17))
        (first,) = asked(engine, Job(prompt, GREEDY, 2))
        (second,) = asked(engine, Job(prompt, GREEDY, 2))
        (other,) = asked(engine, Job(prompt, GREEDY, 2, owner="someone else"))
    read = [next(event for event in ear.events if isinstance(event, PromptEvent)) for ear in (first, second, other)]
    assert [event.cached_tokens for event in read] == [0, 16, 0]
    assert first.ids() == second.ids() == other.ids()


def test_a_request_that_waits_for_blocks_is_counted_once():
    runner = FakeRunner(blocks=10)
    with engine_of(runner, rows=4) as engine:
        jobs = [Job((n, *range(11)), GREEDY, 8) for n in range(4)]  # two fit at a time
        asked(engine, *jobs)
        assert settled(engine).queried_tokens == 4 * 12


def test_several_choices_share_the_prompt_and_have_chances_of_their_own():
    runner = FakeRunner()
    sampling = Sampling(temperature=2.0, seed=3)
    with engine_of(runner) as engine:
        prompt = tuple(range(13))
        (ear,) = asked(engine, Job(prompt, sampling, 6, choices=3))
        (alone,) = asked(engine, Job(prompt, sampling, 6))
    assert ear.ids(0) == alone.ids()
    assert len({tuple(ear.ids(choice)) for choice in range(3)}) == 3
    assert sum(sum(step) for step in runner.steps) < 2 * 13 + 4 * 6 + 13  # the others read at most a block each
    assert sum(isinstance(event, PromptEvent) for event in ear.events) == 1


def test_an_end_token_ends_and_can_be_ignored():
    prompt = (5, 6)
    ends = frozenset({written(prompt, 3)[4]})
    plain = written(prompt, 10, ends=ends)
    with engine_of() as engine:
        ear, deaf = asked(engine, Job(prompt, GREEDY, 10, ends), Job(prompt, Sampling(temperature=0, ignore_eos=True), 10, ends))
    assert [*prompt, *ear.ids()] == plain and ear.reasons() == {0: "eos"}
    assert len(deaf.ids()) == 10 and deaf.reasons() == {0: "length"} and not ends & {*deaf.ids()}


def test_logprobs_are_those_of_the_model():
    prompt = (4, 8, 15, 16)
    job = Job(prompt, Sampling(temperature=1.7, seed=1), 5, logprobs=2, prompt_logprobs=3)
    with engine_of(batch_tokens=2) as engine:
        (ear,) = asked(engine, job)

    def log_softmax(logits):
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    ids = [*prompt, *ear.ids()]
    read = next(event for event in ear.events if isinstance(event, PromptEvent))
    assert read.logprobs[0] == (None, ())
    for place, (logprob, top) in enumerate(read.logprobs[1:], 1):
        table = log_softmax(next_logits(ids[:place]))
        assert logprob == pytest.approx(table[ids[place]], abs=1e-5)
        assert [token for token, _ in top] == list(np.argsort(-table)[:3])
    for event, place in zip((event for event in ear.events if isinstance(event, TokenEvent)), range(4, 9)):
        table = log_softmax(next_logits(ids[:place]))
        assert event.logprob == pytest.approx(table[event.token], abs=1e-5)
        assert [token for token, _ in event.top] == list(np.argsort(-table)[:2])


@pytest.mark.parametrize("poison", [1, 2])
def test_one_failing_request_fails_alone(poison):
    with engine_of(FakeRunner(poison=poison)) as engine:
        good = [Job((9, n + 10, 11), GREEDY, 6) for n in range(3) if poison not in written((9, n + 10, 11), 6)]
        bad = Job((9, poison, 3), GREEDY, 6)
        *ears, failed = asked(engine, *good, bad)
        assert isinstance(failed.events[-1], FaultEvent) and failed.events[-1].kind == "internal"
        assert "poison" not in failed.events[-1].message and "bug" not in failed.events[-1].message
        for job, ear in zip(good, ears):
            assert [*job.ids, *ear.ids()] == written(job.ids, 6)
        assert engine.status().alive and engine.pool.used == 0


@pytest.mark.parametrize("numbers", [False, True])
def test_a_failing_choice_ends_its_request_and_nothing_else(numbers):
    """Its other choices stand in the same step, before and behind it."""
    runner = FakeRunner(blocks=40)
    run = runner.run

    def broken(pieces):
        bad = [piece.ids[-1] == 5 and piece.start > 12 for piece in pieces]
        if any(bad) and not numbers:
            raise RowFault(pieces[bad.index(True)].row, "a token of an answer")
        return [np.full_like(found, np.nan) if wrong else found for wrong, found in zip(bad, run(pieces))]

    runner.run = broken
    sampling = Sampling(temperature=5.0, seed=1, logit_bias={5: -100})
    with engine_of(runner, rows=8) as engine:
        jobs = [Job(tuple(range(10, 23)), Sampling(temperature=5.0, seed=seed), 40, choices=3) for seed in range(3)]
        safe = Job((1, 2, 3), sampling, 20)
        *failed, good = asked(engine, *jobs, safe)
        assert all(isinstance(ear.events[-1], FaultEvent) for ear in failed)
        assert good.reasons() == {0: "length"} and engine.status().alive and engine.pool.used == 0


def test_a_cancelled_choice_frees_its_row_within_a_step():
    runner, gate = FakeRunner(), threading.Event()
    run = runner.run

    def held(pieces):  # after some steps the runner waits until the request has been cancelled
        if len(runner.steps) == 5:
            assert gate.wait(10)
        return run(pieces)

    runner.run = held
    with engine_of(runner, rows=1) as engine:
        ear = Ear()
        ticket = engine.submit(Job((1, 2), GREEDY, 60), ear)
        ticket.cancel()
        engine.wake()
        gate.set()
        ear.wait()
        assert ear.reasons() == {0: "cancelled"} and len(ear.ids()) <= 5
        (after,) = asked(engine, Job((1, 2), GREEDY, 4))
        assert after.reasons() == {0: "length"} and engine.pool.used == 0


def test_time_runs_out_with_a_fault():
    with engine_of() as engine:
        (ear,) = asked(engine, Job((1, 2), GREEDY, 8, deadline=time.monotonic() - 1))
        assert ear.events == [FaultEvent("deadline", ear.events[0].message)]


def test_what_cannot_run_is_refused_at_once():
    with engine_of(FakeRunner(blocks=4), waiting=2) as engine:
        with pytest.raises(BadInput, match="room for 16"):
            engine.submit(Job((1,), GREEDY, 17), Ear())
        with pytest.raises(BadInput, match="empty"):
            engine.submit(Job((), GREEDY, 1), Ear())
        with pytest.raises(BadInput, match="no encoder"):
            engine.submit(Job((1,), GREEDY, 1, source=(2, 3)), Ear())
        with pytest.raises(QueueFull):
            engine.submit(Job((1,), GREEDY, 2, choices=3), Ear(3))
    with pytest.raises(EngineClosed):
        engine.submit(Job((1,), GREEDY, 1), Ear())


def test_closing_lets_running_answers_end_or_tells_them():
    engine = engine_of().start()
    ear = Ear()
    engine.submit(Job((1, 2), GREEDY, 10), ear)
    engine.close(drain_s=10)
    assert ear.wait().reasons() == {0: "length"}
    slow = FakeRunner()
    run = slow.run
    slow.run = lambda pieces: (time.sleep(0.05), run(pieces))[1]
    engine, ear = engine_of(slow).start(), Ear()
    engine.submit(Job((1, 2), GREEDY, 60), ear)
    time.sleep(0.1)
    engine.close(drain_s=0)
    assert isinstance(ear.wait().events[-1], FaultEvent) and ear.events[-1].kind == "shutdown"


def test_a_flood_of_one_owner_does_not_hold_up_another():
    order = []
    with engine_of(rows=1) as engine:
        jobs = [Job((1, 2), GREEDY, 3, owner=owner) for owner in ["a"] * 5 + ["b"]]
        ears = [Ear() for _ in jobs]

        def listener(job, ear):
            return lambda event: (order.append(job.owner) if isinstance(event, PromptEvent) else None, ear(event))

        with engine._bell:
            for job, ear in zip(jobs, ears):
                engine.submit(job, listener(job, ear))
        [ear.wait() for ear in ears]
    assert order.index("b") <= 2


def test_only_reading_the_prompt_writes_nothing():
    with engine_of() as engine:
        (ear,) = asked(engine, Job((1, 2, 3), GREEDY, 0, prompt_logprobs=0))
    assert ear.reasons() == {0: "length"} and ear.ids() == []
    assert len(ear.events[0].logprobs) == 3


@given(st.lists(st.integers(0, VOCAB - 1), min_size=2, max_size=20), st.data())
@settings(max_examples=30, deadline=None)
def test_scores_from_a_place_on_are_those_of_the_whole_prompt_and_the_rest_may_come_from_the_cache(prompt, data):
    begin = data.draw(st.integers(1, len(prompt)))
    part = Job(tuple(prompt), GREEDY, 0, prompt_logprobs=1, scored_from=begin)
    with engine_of(batch_tokens=data.draw(st.integers(1, 16))) as engine:
        (whole,) = asked(engine, Job(tuple(prompt), GREEDY, 0, prompt_logprobs=1))
        (again,) = asked(engine, part)
    with engine_of(batch_tokens=data.draw(st.integers(1, 16))) as engine:
        (first,) = asked(engine, part)
    expected = ((None, ()),) * begin + whole.events[0].logprobs[begin:]
    assert again.events[0].logprobs == first.events[0].logprobs == expected
    block = FakeRunner().block_tokens
    assert again.events[0].cached_tokens == (begin - 1) // block * block and first.events[0].cached_tokens == 0


@pytest.mark.parametrize("begin", [0, 4])
def test_scores_from_no_place_of_the_prompt_are_refused(begin):
    with engine_of() as engine, pytest.raises(BadInput, match="tokens 1 to 3"):
        engine.submit(Job((1, 2, 3), GREEDY, 0, prompt_logprobs=0, scored_from=begin), Ear())
