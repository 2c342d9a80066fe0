"""A load, driven: open loop (requests arrive by chance, however the server fares) or closed loop (so many at a time)."""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from danlu.apps.load.client import Answer, Client
from danlu.apps.load.figures import DEFINITIONS, SCHEMA, figures
from danlu.apps.load.prompts import Prompts


@dataclass(frozen=True)
class Load:
    """What is asked of a server."""

    url: str
    model: str
    api_key: str | None = None
    api: Literal["chat", "completions"] = "chat"
    requests: int = 64
    """For each level; 0: until duration_s is over."""
    duration_s: float = 0.0
    """Seconds in which requests are begun; 0: until there were `requests`."""
    prompt_tokens: int = 128
    shared_prefix: int = 0
    max_tokens: int = 64
    stream: bool = True
    warmup: int = 1
    disconnects: float = 0.0
    bad_bodies: float = 0.0
    timeout_s: float = 300.0
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Level:
    """How hard: `concurrency` requests at a time, or `rate` arrivals a second."""

    concurrency: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        return f"{self.concurrency} at a time" if self.concurrency else f"{self.rate:g} a second"


def measure(load: Load, levels: Sequence[Level], told: Callable[[dict[str, Any]], None] = lambda run: None) -> dict[str, Any]:
    """The report on a server at each level. Raises ConnectionError where it does not answer a first request."""
    return asyncio.run(_measure(load, levels, told))


async def _measure(load: Load, levels: Sequence[Level], told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    client = connect(load)
    runs = []
    try:
        for place, level in enumerate(levels):
            prompts = Prompts(load.model, load.api, load.max_tokens, load.stream, load.seed * 1000 + place, load.extra)
            await prompts.fit(client, load.prompt_tokens, load.shared_prefix)
            for _ in range(load.warmup):
                await client.ask(prompts.path, prompts.next())
            answers = await drive(client, prompts, load, level)
            run = {"concurrency": level.concurrency, "rate": level.rate, **figures(answers)}
            runs.append(run)
            told(run)
    finally:
        await client.close()
    return {"schema": SCHEMA, "url": load.url, "model": load.model, "definitions": DEFINITIONS, "runs": runs}


def connect(load: Load) -> Client:
    """A client for the server of a load."""
    parts = urlsplit(load.url)
    headers = {"Content-Type": "application/json", "Accept": "*/*"}
    if load.api_key:
        headers["Authorization"] = f"Bearer {load.api_key}"
    secure = parts.scheme == "https"
    return Client(parts.hostname or "127.0.0.1", parts.port or (443 if secure else 80), secure, headers, load.timeout_s)


async def drive(client: Client, prompts: Prompts, load: Load, level: Level,
                told: Callable[[Answer], None] = lambda answer: None) -> list[Answer]:  # fmt: skip
    """Send the requests of one level; each answer is told when it is there. Returns all of them."""
    dice = random.Random(load.seed + 1)  # noqa: S311  # no secret is made
    answers: list[Answer] = []
    until = time.perf_counter() + load.duration_s if load.duration_s else float("inf")
    turns = iter(range(load.requests)) if load.requests else itertools.count()

    def more() -> bool:
        return time.perf_counter() < until and next(turns, None) is not None

    async def one() -> None:
        chance = dice.random()
        if chance < load.bad_bodies:
            answer = await client.ask(prompts.path, prompts.wrong(), wrong=True)
        elif chance < load.bad_bodies + load.disconnects:
            answer = await client.ask(prompts.path, prompts.next(), leave_after=dice.randrange(4))
        else:
            answer = await client.ask(prompts.path, prompts.next())
        answers.append(answer)
        told(answer)

    async def worker() -> None:
        while more():
            await one()

    async with asyncio.TaskGroup() as group:
        if level.concurrency:
            for _ in range(level.concurrency):
                group.create_task(worker())
        else:
            assert level.rate
            while more():
                group.create_task(one())
                await asyncio.sleep(dice.expovariate(level.rate))
    return answers
