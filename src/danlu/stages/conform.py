"""Check a server against OpenAI's API, item by item: ours, or any other that says it is compatible."""

import os
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from danlu.apps.conform.check import Verdict
from danlu.core.artifact import check_out, publish
from danlu.core.errors import BadSettings, DanluError
from danlu.core.settings import Settings
from danlu.stages import STAGES

KEY = "DANLU_API_KEY"
_WIDE = 160
_COLOURS = {"pass": "green", "fail": "bold red", "not offered": "yellow", "needs more": "cyan"}


class Conform(Settings):
    """Sends some hundred small requests, wrong ones among them. Ends with 1 if a check failed; what a server does not offer, or
    cannot be judged from outside, is no failure and is listed."""

    positional = ("url",)

    url: str
    """Address of the server, with or without /v1: http://127.0.0.1:8000"""
    api_key: str | None = Field(None, exclude=True)
    """Key to send; left out, the environment variable DANLU_API_KEY. It is written nowhere."""
    model: str | None = None
    """Model to ask; left out, the first that the server lists."""
    only: list[str] = Field([])
    """Checks to run: C31, C10 for all that begin with it, or a section: transport, chat, streaming, formats, completions,
    embeddings, responses. Left out, all."""
    timeout_s: float = Field(60, gt=0)
    """Seconds that an answer may take before the check has failed."""
    out: Path | None = None
    """Folder to write: report.html, report.json."""
    overwrite: bool = False
    """Whether to replace a finished output."""


@STAGES.register
def conform(config: Conform) -> list[Verdict]:
    """Run the checks, print the table, write the report. Raises DanluError if one failed."""
    from danlu.apps.conform import suite
    from danlu.core.page import write_report

    checks = suite.chosen(config.only)
    if config.out:
        check_out(config.out, config.overwrite)
    target = reached(config.url, key(config.api_key), config.model, config.timeout_s)
    table = Table()
    verdicts = suite.run(target, checks, table.add)
    counted = suite.counts(verdicts)
    table.end(counted)
    if config.out:
        with publish(config.out, kind="report", stage="conform", settings=config, overwrite=config.overwrite) as draft:
            draft.metrics = counted
            write_report(draft.path, suite.page(target, verdicts), suite.figures(target, verdicts))
    if counted["fail"]:
        raise DanluError(f"{counted['fail']} of {len(verdicts)} checks failed at {target.url}. The table says what was expected.")
    return verdicts


def key(given: str | None) -> str | None:
    """The key to send."""
    return given or os.environ.get(KEY) or None


def reached(url: str, api_key: str | None, model: str | None, timeout_s: float) -> Any:
    """The server, once it has answered. Raises BadSettings or DanluError."""
    from danlu.apps.conform.target import Target

    try:
        target = Target(url, api_key, model, timeout_s)
    except ValueError as error:
        raise BadSettings(f"{error}. Give one like http://127.0.0.1:8000") from None
    try:
        reply = target.get("/v1/models")
    except OSError as error:
        raise DanluError(f"nothing answers at {target.url}: {error}. Is the server running, and is this its address?") from None
    if reply.status in (401, 403):
        raise BadSettings(f"{target.url} asks for a key: give --api_key, or set {KEY}.")
    if model is None and reply.status != 200:
        raise BadSettings(f"{target.url} does not list its models (/v1/models answers {reply.status}): name one with --model.")
    return target


class Table:
    """The verdicts on stdout, each when it is there."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)

    def add(self, verdict: Verdict) -> None:
        """One line, and a second one for what was seen."""
        from rich.text import Text

        line = Text.assemble((f"{verdict.outcome:12}", _COLOURS[verdict.outcome]), f"{verdict.id:6}", verdict.claim)
        self.console.print(line, soft_wrap=False)
        if verdict.detail:
            from rich.padding import Padding

            self.console.print(Padding(Text(verdict.detail, "dim"), (0, 0, 0, 18), expand=False))

    def end(self, counted: dict[str, int]) -> None:
        """The sums."""
        self.console.print(", ".join(f"{count} {outcome}" for outcome, count in counted.items()))
