"""Measure a server under load: time to first token, time per token, throughput, at one or many requests at a time."""

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from danlu.core.artifact import check_out, publish
from danlu.core.errors import BadSettings, DanluError
from danlu.core.settings import Settings
from danlu.stages import STAGES
from danlu.stages.conform import key, reached

COLUMNS = ("load", "success", "incomplete", "error", "requests/s", "output tokens/s", "TTFT ms p50", "p99", "TPOT ms p50", "p99",
           "ITL ms p50", "p99")  # fmt: skip


class Bench(Settings):
    """Works with any OpenAI-compatible server. TTFT is the time to the first piece of text that is not empty; ITL the gaps
    between pieces; TPOT is (end to end - TTFT) / (output tokens - 1) of each request. No prompt is sent twice."""

    positional = ("url",)

    url: str
    """Address of the server, with or without /v1: http://127.0.0.1:8000"""
    api_key: str | None = Field(None, exclude=True)
    """Key to send; left out, the environment variable DANLU_API_KEY. It is written nowhere."""
    model: str | None = None
    """Model to ask; left out, the first that the server lists."""
    api: Literal["chat", "completions"] = "chat"
    """Which of the two ways of asking."""
    concurrency: list[int] = Field([1, 4, 16])
    """Closed loop: so many requests at a time, one level after the other."""
    rate: list[float] = Field([])
    """Open loop in place of it: so many arrivals a second, by chance (Poisson), however the server fares."""
    requests: int = Field(64, ge=0)
    """Requests for each level; 0 goes on for --duration_s."""
    duration_s: float = Field(0, ge=0)
    """Seconds in which requests of a level are begun; 0 goes on for --requests."""
    prompt_tokens: int = Field(128, ge=1)
    """Tokens of a prompt, frame of the chat included; near enough, and told as they were."""
    shared_prefix: int = Field(0, ge=0)
    """Tokens at the beginning that all prompts share, to measure the server's cache."""
    max_tokens: int = Field(64, ge=1)
    """Tokens of an answer; models may end earlier (--extra.ignore_eos true, where the server knows it)."""
    stream: bool = True
    """Whether answers are streamed; without, there is no TTFT."""
    warmup: int = Field(1, ge=0)
    """Requests before each level that are not counted."""
    disconnects: float = Field(0, ge=0, le=1)
    """Share of clients that hang up in the middle, for tests of endurance."""
    bad_bodies: float = Field(0, ge=0, le=1)
    """Share of bodies that are wrong on purpose and must be refused, likewise."""
    extra: dict[str, Any] = Field({})
    """More fields for the body of each request."""
    timeout_s: float = Field(300, gt=0)
    """Seconds after which a request counts as incomplete."""
    seed: int = 0
    """Makes the prompts and the arrivals; another seed finds no prompt of this one in a cache."""
    out: Path | None = None
    """Folder to write: report.html, report.json."""
    overwrite: bool = False
    """Whether to replace a finished output."""


@STAGES.register
def bench(config: Bench) -> dict[str, Any]:
    """Run each level, print the table, write the report; returns what report.json holds."""
    from danlu.apps.load.run import Level, Load, measure
    from danlu.core.page import write_report

    if not config.requests and not config.duration_s:
        raise BadSettings("give --requests or --duration_s: a load needs an end.")
    if config.out:
        check_out(config.out, config.overwrite)
    target = reached(config.url, key(config.api_key), config.model, config.timeout_s)
    load = Load(
        url=target.url, model=target.model, api_key=target.api_key,
        **config.model_dump(include={"api", "requests", "duration_s", "prompt_tokens", "shared_prefix", "max_tokens", "stream",
                                     "warmup", "disconnects", "bad_bodies", "timeout_s", "seed", "extra"}),
    )  # fmt: skip
    levels = [Level(rate=rate) for rate in config.rate] or [Level(concurrency=many) for many in config.concurrency]
    try:
        report = measure(load, levels)
    except ConnectionError as error:
        hint = " A model that holds no conversation is measured with --api completions." if config.api == "chat" else ""
        raise DanluError(f"{target.url} cannot be measured: {error}.{hint}") from None
    report["settings"] = config.model_dump(mode="json", exclude={"out", "overwrite"})
    show(report)
    if config.out:
        with publish(config.out, kind="report", stage="bench", settings=config, overwrite=config.overwrite) as draft:
            draft.metrics = {"runs": report["runs"]}
            write_report(draft.path, page(report), report)
    return report


def rows(report: dict[str, Any]) -> list[list[Any]]:
    """One line a level; times in milliseconds."""
    return [[name(run), *(run["requests"][key] for key in ("success", "incomplete", "error")),
             round(run["request_rate"], 2), round(run["output_tokens_per_s"], 1),
             *(milliseconds(run[kind], share) for kind in ("ttft_s", "tpot_s", "itl_s") for share in ("p50", "p99"))]
            for run in report["runs"]]  # fmt: skip


def name(run: dict[str, Any]) -> str:
    """How hard a level was, in words."""
    return f"{run['concurrency']} at a time" if run["concurrency"] else f"{run['rate']:g} a second"


def milliseconds(spread: dict[str, float], share: str) -> float | str:
    """A percentile in milliseconds; a dash where there is none."""
    return round(spread[share] * 1000, 1) if spread else "-"


def show(report: dict[str, Any]) -> None:
    """The table on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table(box=box.SIMPLE)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "load" else "right")
    for row in rows(report):
        table.add_row(*map(str, row))
    console.print(table)


def page(report: dict[str, Any]) -> Any:
    """The report for people."""
    from danlu.core.page import Page

    made = Page("Load", f"{report['url']}, model {report['model']}")
    made.table(COLUMNS, rows(report))
    made.heading("What the figures mean")
    made.table(("figure", "meaning"), report["definitions"].items())
    made.heading("What was asked")
    made.table(("setting", "value"), report["settings"].items())
    for run in report["runs"]:
        if run["errors"]:
            made.heading(f"Errors at {name(run)}")
            made.table(("error", "times"), run["errors"].items())
    return made
