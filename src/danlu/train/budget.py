"""The budget dial: from a time, a number of tokens or of operations to a whole plan of training.

Every candidate (width, depth, vocabulary, row length, batch) is priced by this machine's measured pace (cost.py), its number
of steps follows from the budget, and a law fitted to small runs (law.py) says how well it would end. The best wins, the
smaller among equals. The same pace, corpus and wishes give the same plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from danlu.core.errors import BadSettings
from danlu.core.units import Budget, count, duration, size
from danlu.models import MODELS
from danlu.train import law
from danlu.train.cost import Shape, memory_bytes, step_seconds
from danlu.train.plan import Corpus, Fixed, Pace, Plan

WIDTHS = (32, 64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048)
LAYERS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
ROW_TOKENS = (128, 256, 512, 1024)
"""Shorter rows would end as low in the shortest runs (LOG.md), but leave a model no room for a prompt and its answer."""
STEP_TOKENS = tuple(2**power for power in range(9, 18))
MICRO_TOKENS = 8192
"""Most tokens of a micro-batch: more gains no speed on a CPU and costs memory."""
_MEMORY_SHARE = 0.6
"""Of the memory this process may use, the most that a plan may take."""
_FEWEST_STEPS = 16
_FEWEST_ROWS = 8
"""Rows of a step: the tokens of one row are too alike to make a batch; steps of four rows ended higher (LOG.md)."""
_STEP_SHARE = 0.5
"""Of the text's tokens, the most that one step may read; how many they are is an estimate until the text is encoded."""
_SPARE = 0.045
"""Share of a time budget kept for held-out evaluation, samples and the last checkpoint."""
_SIGHTS = 60
"""Tokens of a run for each entry of a vocabulary: with fewer, most entries stay as they began (Chinese, LOG.md)."""
_MEASURING_SHARE = 0.2
"""Of a time budget, the most that measuring is charged for: a very short budget still trains."""
_EQUAL = 0.001
"""Predicted bits per byte that are no reason to take a larger model."""


@dataclass(frozen=True)
class Candidate:
    """One way to spend the budget, priced and judged."""

    shape: Shape
    row_tokens: int
    rows: int
    micro_rows: int
    steps: int
    step_s: float
    memory_bytes: int
    bits_per_byte: float

    @property
    def tokens(self) -> int:
        """Tokens that all steps read."""
        return self.steps * self.rows * self.row_tokens

    @property
    def flops(self) -> float:
        """Arithmetic of all steps."""
        return self.tokens * self.shape.flops_per_token(self.row_tokens)


def choose(budget: Budget, corpus: Corpus, pace: Pace, fixed: Fixed | None = None, spent_s: float = 0.0) -> Plan:
    """The best plan for a budget. `spent_s`: seconds that measuring has used, see `charged`.

    Raises BadSettings when nothing fits: the budget is too small for a single sensible step, or memory for the sizes given.
    """
    fixed = fixed or Fixed()
    if budget.unit == "tokens" and fixed.steps is None:
        found = _of_tokens(budget.amount, corpus, pace, fixed)
    else:
        found = list(candidates(budget, corpus, pace, fixed, spent_s))
    if fixed.steps and found:
        shapes = _worthwhile(fixed.steps * (fixed.rows or 16) * (fixed.row_tokens or 128), corpus, pace, fixed)
        found = _affordable([one for one in found if one.shape in shapes] or found, budget, spent_s)
    if not found:
        raise BadSettings(
            f"no model fits: with {budget}, {size(pace.memory_bytes)} of memory and the sizes given, not even {_FEWEST_STEPS} "
            f"steps can be made. Give a larger --budget, a smaller model, or fewer --batch_rows."
        )
    best = min(found, key=lambda one: (one.bits_per_byte, one.shape.parameters))
    near = [one for one in found if one.bits_per_byte <= best.bits_per_byte + _EQUAL]
    best = min(near, key=lambda one: (one.shape.parameters, one.bits_per_byte, one.steps))
    return _plan(budget, corpus, pace, fixed, best, found)


def candidates(budget: Budget, corpus: Corpus, pace: Pace, fixed: Fixed, spent_s: float = 0.0) -> Iterator[Candidate]:
    """Every plan worth judging that the budget and memory allow."""
    iterations, lengths = _iterations(fixed), _row_lengths(fixed)
    least = fixed.vocab_size or corpus.vocabularies[0]
    for shape in _shapes(corpus, fixed):
        for row_tokens in lengths:
            for rows in _rows(row_tokens, fixed, corpus.train_bytes / corpus.bytes_per_token[shape.vocab]):
                micro_rows = fixed.micro_rows or max(1, min(-(-rows // fixed.processes), MICRO_TOKENS // row_tokens))
                memory = memory_bytes(shape, row_tokens, micro_rows, pace, fixed.dtype or pace.dtype)
                if memory > _MEMORY_SHARE * pace.memory_bytes and set(fixed.model) <= {"name"}:
                    continue
                step_s = step_seconds(shape, row_tokens, -(-rows // fixed.processes), micro_rows, pace, iterations)
                steps = fixed.steps or _steps(budget, shape, row_tokens, rows, step_s, spent_s)
                if steps < (1 if fixed.steps else _FEWEST_STEPS):
                    continue
                if shape.vocab > least and steps * rows * row_tokens < _SIGHTS * shape.vocab:
                    continue
                loss = law.bits_per_byte(shape, steps * rows * row_tokens, rows * row_tokens, row_tokens, corpus)
                yield Candidate(shape, row_tokens, rows, micro_rows, steps, step_s, memory, loss)


def _affordable(found: list[Candidate], budget: Budget, spent_s: float) -> list[Candidate]:
    """Plans whose given steps the budget allows; where there is none, the quickest: a given number of steps is made."""
    within = [one for one in found if one.steps <= _steps(budget, one.shape, one.row_tokens, one.rows, one.step_s, spent_s)]
    return within or [min(found, key=lambda one: one.step_s)]


def _steps(budget: Budget, shape: Shape, row_tokens: int, rows: int, step_s: float, spent_s: float) -> int:
    if budget.unit == "seconds":
        return int((budget.amount * (1 - _SPARE) - charged(budget, spent_s)) / step_s)
    each = rows * row_tokens * (shape.flops_per_token(row_tokens) if budget.unit == "flops" else 1)
    return int(budget.amount / each)


def charged(budget: Budget, spent_s: float) -> float:
    """Of the seconds that measuring took, those that a budget pays for: never more than a fifth of it."""
    return min(spent_s, _MEASURING_SHARE * budget.amount) if budget.unit == "seconds" else 0.0


def _of_tokens(tokens: float, corpus: Corpus, pace: Pace, fixed: Fixed) -> list[Candidate]:
    """Plans for a number of tokens, of the shapes that are worth it."""
    exact, allowed = list(candidates(Budget(tokens, "tokens"), corpus, pace, fixed)), _worthwhile(tokens, corpus, pace, fixed)
    return [one for one in exact if one.shape in allowed] or exact


def _worthwhile(tokens: float, corpus: Corpus, pace: Pace, fixed: Fixed) -> set[Shape]:
    """More weights always help a given number of tokens, so a price is needed: the time whose best plan reads as many.

    Halving between a second and a year finds it, with one row length; models that this time cannot train on so many tokens
    are too dear.
    """
    coarse = fixed.model_copy(
        update={"steps": None, "row_tokens": fixed.row_tokens or 128, "rows": fixed.rows or max(16, fixed.processes)}
    )
    low, high = 1.0, 3e7
    for _ in range(10):
        middle = (low * high) ** 0.5
        found = candidates(Budget(middle, "seconds"), corpus, pace, coarse)
        best = min(found, key=lambda one: one.bits_per_byte, default=None)
        low, high = (middle, high) if best is None or best.tokens < tokens else (low, middle)
    return {one.shape for one in candidates(Budget(high, "seconds"), corpus, pace, coarse) if one.tokens >= tokens}


def _shapes(corpus: Corpus, fixed: Fixed) -> Iterator[Shape]:
    """Sizes worth trying: what the user fixed, and the grid for the rest."""
    given, family = fixed.model, MODELS[fixed.model.get("name", "qwen3")].Config
    names = {size: family.sizes.get(size, "") for size in ("width", "inner", "layers", "heads")}
    vocabularies = [fixed.vocab_size] if fixed.vocab_size else corpus.vocabularies
    for width in [given[names["width"]]] if names["width"] in given else WIDTHS:
        for layers in [given[names["layers"]]] if names["layers"] in given else LAYERS:
            if not 8 <= width / layers <= 192 and not {names["width"], names["layers"]} & given.keys():
                continue
            for vocab in vocabularies:
                yield Shape(
                    width=width,
                    inner=given.get(names["inner"]) or inner_width(width),
                    layers=layers,
                    heads=given.get(names["heads"]) or heads(width),
                    vocab=vocab,
                    tied=given.get("tie_word_embeddings", family.ties),  # an own head ends about 1 % lower
                    stored=family.stored(given),
                )


def inner_width(width: int) -> int:
    """Channels of the gated feed-forward layer: about 8/3 of the width, in steps of 32."""
    return -(-8 * width // 3 // 32) * 32


def heads(width: int) -> int:
    """Heads of 32 channels in narrow models and of 64 in wide ones: fewer heads cost less softmax and learn alike."""
    return max(1, width // (64 if width >= 192 else 32))


def _row_lengths(fixed: Fixed) -> tuple[int, ...]:
    """Lengths of a row worth trying: none beyond the context, where one is given."""
    if fixed.row_tokens:
        return (fixed.row_tokens,)
    context = fixed.model.get(MODELS[fixed.model.get("name", "qwen3")].Config.sizes.get("context", ""), ROW_TOKENS[-1])
    return tuple(length for length in ROW_TOKENS if length <= context) or (context,)


def _rows(row_tokens: int, fixed: Fixed, text_tokens: float) -> list[int]:
    """Rows of a step worth trying: as many as the text gives, and at least the fewest in rows of the shortest length."""
    if fixed.rows:
        return [fixed.rows]
    most = max(_STEP_SHARE * text_tokens, _FEWEST_ROWS * ROW_TOKENS[0])
    fitting = [step for step in STEP_TOKENS if _FEWEST_ROWS * row_tokens <= step <= most]
    if not fitting and fixed.row_tokens:  # longer than any of the grid, or than the text is good for: as many as it gives
        fitting = [int(min(most, STEP_TOKENS[-1]))]
    return sorted({max(fixed.processes, 1, step // row_tokens) for step in fitting})


def _iterations(fixed: Fixed) -> int:
    return fixed.optimiser.get("iterations", law.ITERATIONS) if fixed.optimiser.get("name", "muon") == "muon" else 0


def _plan(budget: Budget, corpus: Corpus, pace: Pace, fixed: Fixed, best: Candidate, found: list[Candidate]) -> Plan:
    shape, family = best.shape, fixed.model.get("name", "qwen3")
    config = MODELS[family].Config
    sizes = config.sized(width=shape.width, inner=shape.inner, layers=shape.layers, heads=shape.heads, context=best.row_tokens)
    sizes |= {"vocab_size": shape.vocab, "tie_word_embeddings": shape.tied}
    if "rope_theta" in config.model_fields:
        sizes["rope_theta"] = law.rope_theta(best.row_tokens)
    epochs = best.tokens * corpus.bytes_per_token[shape.vocab] / corpus.train_bytes
    forgetting = law.forgetting(epochs, best.steps, corpus.train_bytes) if fixed.forgets else 0.0
    optimiser = {**law.rates(fixed.optimiser.get("name", "muon"), best.steps, shape, forgetting), **fixed.optimiser}
    if optimiser["name"] == "muon" and pace.matmul_flops["bfloat16"] > 1.2 * pace.matmul_flops["float32"]:
        optimiser.setdefault("dtype", "bfloat16")
    schedule = {**law.schedule(fixed.schedule.get("name", "wsd")), **fixed.schedule}
    plan = Plan(
        budget=budget,
        model={"name": family, **sizes, **fixed.model},
        vocab_size=shape.vocab,
        row_tokens=best.row_tokens,
        rows=best.rows,
        micro_rows=best.micro_rows,
        steps=best.steps,
        optimiser=optimiser,
        schedule=schedule,
        dtype=fixed.dtype or pace.dtype,
        threads=fixed.threads or pace.threads,
        compile=bool(fixed.compile),
        parameters=shape.parameters,
        epochs=epochs,
        step_s=best.step_s,
        seconds=best.step_s * best.steps,
        tokens=best.tokens,
        flops=best.flops,
        memory_bytes=best.memory_bytes,
        bits_per_byte=best.bits_per_byte,
        reasons=[],
    )
    return plan.model_copy(update={"reasons": list(_reasons(plan, corpus, pace, best, found))})


def _reasons(plan: Plan, corpus: Corpus, pace: Pace, best: Candidate, found: list[Candidate]) -> Iterator[str]:
    shape = best.shape
    yield f"judged {len(found)} plans that {plan.budget} allows; this one should end lowest (the smallest among equals)"
    yield (
        f"model: {shape.layers} layers x {shape.width}, {count(shape.parameters)} weights ({count(shape.matrices)} in layers); "
        f"{_versus(best, found, 'half the width', lambda one: one.shape.width <= shape.width / 2)}; "
        f"{_versus(best, found, 'twice the width', lambda one: one.shape.width >= shape.width * 2)}"
    )
    yield (
        f"vocabulary: {shape.vocab} tokens of {corpus.bytes_per_token[shape.vocab]:.2f} bytes; "
        f"{_versus(best, found, 'half as many', lambda one: one.shape.vocab <= shape.vocab / 2)}; "
        f"{_versus(best, found, 'twice as many', lambda one: one.shape.vocab >= shape.vocab * 2)}"
    )
    yield (
        f"a step: {best.rows} rows of {best.row_tokens} tokens, {best.step_s:.3g} s predicted; {best.steps} steps, "
        f"{count(best.tokens)} tokens in {duration(plan.seconds)}"
    )
    yield f"text: {size(corpus.train_bytes)} read {_often(plan.epochs)}"
    rates = ", ".join(f"{name} {value:.3g}" for name, value in plan.optimiser.items() if isinstance(value, float) and value)
    yield f"{plan.optimiser['name']}: {rates}"
    yield f"{plan.dtype} on {plan.threads} threads: what was fastest here; memory about {size(plan.memory_bytes)}"


def _often(epochs: float) -> str:
    """How many times the text is read, and what that means.

    >>> _often(0.42), _often(630.4)
    ('0.42 times', '630 times; after about 16 it teaches almost nothing more: more text helps, more time does not')
    """
    times = f"{epochs:,.0f} times" if epochs >= 10 else f"{epochs:.2g} times"
    if epochs > law.USED_UP:
        return f"{times}; after about {law.USED_UP} it teaches almost nothing more: more text helps, more time does not"
    return f"{times}; repeated text teaches less each time" if epochs > 1.5 else times


def _versus(best: Candidate, found: list[Candidate], what: str, matches: Any) -> str:
    """How much worse the best of another kind would be."""
    others = [one.bits_per_byte for one in found if matches(one)]
    return f"{what}: {min(others) - best.bits_per_byte:+.3f} bits per byte" if others else f"{what}: does not fit"
