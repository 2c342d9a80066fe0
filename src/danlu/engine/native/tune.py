"""Two seconds of measuring before a model is packed: how fast this machine multiplies in each format, on the model's own sizes.

A step of one row reads every weight once, so the products alone tell what decoding will take, but for attention. What
`--weights auto` chooses keeps what the weights say: bf16 only where they are bf16 numbers already and it is faster;
int8 and int4 are advice. Names of speeds: tokens of one answer a second, and tokens of a prompt.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from danlu.engine.native.matrix import FORMATS, Format, instructions, pack, rounded
from danlu.models.base import CausalLM
from danlu.nn.quant import Quantised

_BEYOND = 96 << 20  # bytes of weights to walk through at one row: more than a cache holds, as a model is
_LARGEST = 1 << 22  # weights of the matrix that is measured
_PROMPT = 64  # rows that stand for a prompt
_TIMES = 16  # how often the rows of the sample are repeated in the matrix that is measured
_GAIN = 1.1  # what another format or thread must gain to be worth choosing


@dataclass(frozen=True)
class Speed:
    """One format on some threads."""

    form: Format
    threads: int
    decode: float
    """Tokens of one answer a second, attention left out."""
    prompt: float
    """Tokens of a prompt a second, attention left out."""


@dataclass(frozen=True)
class Choice:
    """What to run, why, and what was measured."""

    form: Format
    threads: int
    why: str
    speeds: tuple[Speed, ...]

    def line(self) -> str:
        """One line for the log: the choice, and what the smaller formats would give."""
        best = {speed.form: speed.decode for speed in self.speeds if speed.threads == self.threads}
        table = ", ".join(f"{form} {rate:,.0f}" for form, rate in best.items())
        return f"{self.form} weights on {self.threads} threads ({self.why}); tokens/s at most: {table}; {instructions()}"


def tune(model: CausalLM, threads: int | None = None, budget_s: float = 2.0) -> Choice:
    """Measure and choose. Threads: those of torch, or fewer where more do not help."""
    threads = threads or torch.get_num_threads()
    counts = sorted({1, threads})
    largest = max((part for part in model.parameters() if part.dim() == 2), key=lambda part: part.numel()).detach()
    sample = largest[: max(_LARGEST // largest.size(1), 32)]
    share_s = budget_s / len(FORMATS) / len(counts) / 2
    speeds = [speed for form in FORMATS for speed in measure(sample, form, counts, model.matmul_parameters(), share_s)]
    return choose(speeds, threads, exact_bf16=bool((sample == sample.bfloat16()).all()))


def measure(weight_OI: torch.Tensor, form: Format, counts: Sequence[int], parameters: int, share_s: float) -> list[Speed]:
    """Speeds of one format for a model of so many parameters, from one matrix; a share of time for each count and kind."""
    few = weight_OI[: max(len(weight_OI) // _TIMES, 32)]
    matrix = pack(_repeated(rounded(few, form)))
    copies = [matrix.copy() for _ in range(max(_BEYOND // matrix.nbytes, 1))]
    one, many = torch.randn(1, few.size(1)), torch.randn(_PROMPT, few.size(1))
    found = []
    for threads in counts:
        decode = _rate(lambda at, threads=threads: copies[at % len(copies)].product(one, threads), share_s)  # type: ignore[misc]
        prompt = _rate(lambda at, threads=threads: copies[at % len(copies)].product(many, threads), share_s)  # type: ignore[misc]
        scale = matrix.c.outputs * matrix.c.inputs / parameters
        found.append(Speed(form, threads, decode * scale, prompt * scale * _PROMPT))
    return found


def _repeated(weight: torch.Tensor | Quantised) -> torch.Tensor | Quantised:
    """The same rows again and again: searching for scales is not what is measured."""
    if isinstance(weight, torch.Tensor):
        return weight.repeat(_TIMES, 1)
    zeros = None if weight.zeros is None else weight.zeros.repeat(_TIMES, 1)
    return Quantised(weight.codes.repeat(_TIMES, 1), weight.scales.repeat(_TIMES, 1), zeros, weight.bits, weight.group)


def choose(speeds: Sequence[Speed], threads: int, exact_bf16: bool) -> Choice:
    """The rule, from measured speeds.

    >>> slow, fast = Speed("fp32", 2, 20.0, 400.0), Speed("bf16", 2, 38.0, 700.0)
    >>> choose([slow, fast], 2, exact_bf16=True).form, choose([slow, fast], 2, exact_bf16=False).form
    ('bf16', 'fp32')
    """
    by = {(speed.form, speed.threads): speed for speed in speeds}
    plain, narrow = by["fp32", threads], by["bf16", threads]
    alone = by.get(("fp32", 1))
    if alone is not None and threads > 1 and alone.decode > plain.decode:
        threads, plain, narrow = 1, alone, by["bf16", 1]
    gain = min(narrow.decode / plain.decode, narrow.prompt / plain.prompt)
    if not exact_bf16:
        return Choice("fp32", threads, f"the weights are no bf16 numbers; bf16 would be {gain:.1f} times as fast", tuple(speeds))
    if gain < _GAIN:
        return Choice("fp32", threads, f"bf16 is only {gain:.2f} times as fast here", tuple(speeds))
    return Choice("bf16", threads, f"the weights are bf16 numbers, {gain:.1f} times as fast as fp32", tuple(speeds))


def _rate(call, share_s: float) -> float:  # type: ignore[no-untyped-def]
    """Calls a second: the best of many short stretches, because others use the machine too."""
    call(0)
    best, at, end = 0.0, 1, time.perf_counter() + share_s
    while time.perf_counter() < end:
        started, first = time.perf_counter(), at
        while (spent := time.perf_counter() - started) < share_s / 8:
            call(at)
            at += 1
        best = max(best, (at - first) / spent)
    return best
