"""A model made ready to serve: which runner computes it, how much it may remember, how many may ask at once."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from danlu.core import log
from danlu.core.errors import BadSettings
from danlu.core.machine import give_memory_back
from danlu.core.settings import Settings
from danlu.engine.adapters import read_adapter
from danlu.engine.engine import Engine
from danlu.engine.model import Model, load
from danlu.engine.runners import native, packed, recurrent
from danlu.engine.runners.solo import SoloRunner
from danlu.engine.scheduler import Limits
from danlu.engine.speculate import Drafter, opened
from danlu.engine.work import Runner
from danlu.models.adapters.peft import is_adapter
from danlu.models.weights import read_packed
from danlu.nn.quant import Quantised


class Serving(Settings):
    """How a model is run for many at once."""

    weights: Literal["auto", "fp32", "bf16", "int8", "int4"] = "auto"
    """How weights are held and multiplied: int8 and int4 are faster and smaller and change answers a little; auto: fp32 or bf16,
    whichever this machine computes faster without a change that could be measured."""
    group: int = Field(32, ge=16)
    """Weights that share a scale, for int4: 32, 64 or 128."""
    cache: Literal["fp32", "bf16", "int8"] = "fp32"
    """How the memory of what was read is held."""
    cache_tokens: int | None = Field(None, ge=64)
    """Tokens that all requests together may have in memory; left out: as many as a quarter of the free memory holds, and
    no more than every row at full context needs."""
    rows: int = Field(16, ge=1, le=1024)
    """Answers that are written at the same time."""
    batch_tokens: int = Field(256, ge=1)
    """Tokens of one step at most: long prompts are read in parts between other people's tokens."""
    waiting: int = Field(256, ge=0)
    """Answers that may wait for a row; more are refused with 503 and the advice to ask again."""
    runner: Literal["auto", "native", "packed", "recurrent", "solo"] = "auto"
    """What computes: native (compiled kernels), packed (torch, many rows at once), recurrent, solo (one row after another)."""
    guess: Literal["auto", "off"] = "auto"
    """Guess tokens ahead by what followed the same words before, and check them all at once; answers stay the same token for
    token. auto: where the runner computes exactly, and only as many as pay by this machine's measure and each answer's luck."""
    draft: Path | None = None
    """Folder of a smaller model with the same tokenizer that does the guessing."""
    guesses: int = Field(4, ge=1, le=16)
    """Tokens that are guessed ahead at most."""


def open_engine(model: Model, settings: Serving, adapters: Mapping[str, Path] | None = None,
                lock: contextlib.AbstractContextManager[object] | None = None, release: bool = False) -> Engine:  # fmt: skip
    """An engine for a model, not started. Raises BadSettings where the settings and the model do not go together.

    release: a runner that packs the weights gives up the model's own, so that they are not in memory twice; the model is then
    good for its tokenizer and sizes alone.
    """
    runner = choose_runner(model, settings, adapters or {}, release)
    if release:
        give_memory_back()
    log.say(f"{model.path.name}: {runner.kernel}")
    known = min(runner.vocab_size, model.tokenizer.vocab_size)
    limits = Limits(settings.rows, settings.batch_tokens, settings.waiting)
    return Engine(runner, known, limits, _drafter(model, runner, known, settings), settings.guesses, lock)


def _drafter(model: Model, runner: Runner, known: int, settings: Serving) -> Drafter | None:
    if settings.guess == "off":
        return None
    draft = None if settings.draft is None else _draft_runner(model, settings, settings.draft)
    return opened(runner, known, settings.guesses, draft)


def _draft_runner(model: Model, settings: Serving, path: Path) -> Runner:
    small = load(path)
    if not isinstance(small, Model) or small.tokenizer.id != model.tokenizer.id:
        raise BadSettings(
            f"--draft {path} guesses in other tokens than {model.path} writes. Give a smaller model with the same tokenizer, or "
            f"leave --draft out."
        )
    return choose_runner(small, Serving(rows=settings.rows, cache_tokens=settings.cache_tokens), {}, release=True)


def choose_runner(model: Model, settings: Serving, adapters: Mapping[str, Path], release: bool = False) -> Runner:
    """The first runner that fits, in the order native, packed, recurrent, solo; or the one that was asked for by name."""
    why: dict[str, str] = {}
    for name in _ORDER if settings.runner == "auto" else (settings.runner,):
        found = _RUNNERS[name](model, settings, adapters, release)
        if not isinstance(found, str):
            return found
        why[name] = found
    reasons = "; ".join(f"{name}: {reason}" for name, reason in why.items())
    raise BadSettings(f"no runner serves {model.path} as asked ({reasons}). Leave --runner, --weights or --adapter out.")


def _native(model: Model, settings: Serving, adapters: Mapping[str, Path], release: bool) -> Runner | str:
    if (reason := native.unfit(model)) is not None:
        return reason
    codes = _codes(model)
    own = next((f"int{small.bits}" for small in codes.values()), None) if all(map(native.takes, codes.values())) else None
    given: Any = own if own and settings.weights == "auto" else settings.weights
    form, threads = native.auto(model) if given == "auto" else (given, None)
    if form == "int4" and settings.group % 32:
        return f"its groups are multiples of 32, not {settings.group}"
    group = settings.group if form == "int4" else None
    blocks = _blocks(model, settings, native.block_bytes(model, settings.cache), native.BLOCK_TOKENS)
    read = {name: read_adapter(path) for name, path in adapters.items()}
    return native.NativeRunner(model, form, group=group, cache=settings.cache, blocks=blocks, adapters=read,
                               threads=threads, codes=codes if form == own else None, release=release)  # fmt: skip


def _packed(model: Model, settings: Serving, adapters: Mapping[str, Path], release: bool) -> Runner | str:
    codes = _codes(model)
    kept = {f"int{small.bits}" for small in codes.values()} if model.model.device.type == "cpu" else set()
    form: Any = settings.weights if settings.weights != "auto" else kept.pop() if len(kept) == 1 else "fp32"
    if (reason := packed.unfit(model, form, settings.group)) is not None:
        return reason
    if settings.cache != "fp32":
        return f"it keeps keys and values as they are, not in {settings.cache}"
    blocks = _blocks(model, settings, packed.block_bytes(model), packed.BLOCK_TOKENS)
    read = {name: read_adapter(path) for name, path in adapters.items()}
    return packed.PackedRunner(model, blocks, adapters=read, weights=form, group=settings.group, codes=codes)


def _codes(model: Model) -> dict[str, Quantised]:
    """Matrices in few bits of a folder that `danlu compress` wrote; an adapter changed those of its base."""
    return {} if is_adapter(model.path) else read_packed(model.path)


def _recurrent(model: Model, settings: Serving, adapters: Mapping[str, Path], release: bool) -> Runner | str:
    return recurrent.unfit(model) or _plain(settings, adapters) or recurrent.RecurrentRunner(model)


def _solo(model: Model, settings: Serving, adapters: Mapping[str, Path], release: bool) -> Runner | str:
    return _plain(settings, adapters) or SoloRunner(model)


def _plain(settings: Serving, adapters: Mapping[str, Path]) -> str | None:
    """Why a runner that knows neither other weights nor adapters cannot serve; None: it can."""
    if settings.weights not in ("auto", "fp32") or settings.cache != "fp32":
        return f"it computes with the weights and a memory as they are, not {settings.weights} and {settings.cache}"
    return f"it has no adapters ({', '.join(adapters)})" if adapters else None


def _blocks(model: Model, settings: Serving, block_bytes: int, block_tokens: int) -> int:
    """How many blocks: as asked, or what a quarter of the free memory holds and every row at full context needs at most."""
    most = settings.rows * -(-model.context // block_tokens)
    if settings.cache_tokens is not None:
        return -(-settings.cache_tokens // block_tokens)
    return max(-(-model.context // block_tokens), min(most, _free_bytes() // 4 // block_bytes))


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


_RUNNERS: dict[str, Callable[[Model, Serving, Mapping[str, Path], bool], Runner | str]] = {
    "native": _native, "packed": _packed, "recurrent": _recurrent, "solo": _solo,
}  # fmt: skip
_ORDER = ("native", "packed", "recurrent", "solo")
