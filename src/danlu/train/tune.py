"""What fine-tuning decides before its first step: how many steps, and the peak rate.

The peak rate follows from the body's width: wide pre-trained bodies want far smaller steps than the narrow ones that a
processor trains. The rule joins two ends: 2e-5 to 5e-5 for BERT's 768 channels (arXiv:1810.04805, A.3), and half of what AdamW
takes here to train bodies of 128 channels from nothing.
"""

import math
import time
from typing import Any

from danlu.core.units import Budget
from danlu.models.adapters.base import is_adapted
from danlu.train.parallel import Parallel
from danlu.train.samples import SampleBatches

_WIDTH, _RATE, _POWER = 128, 1e-3, 1.9
_MOST_BESIDE = 5e-3
_TIMED = 3  # steps whose time says how many fit a budget


def rate_for(width: int) -> float:
    """Peak rate of AdamW for a body of that width.

    >>> f"{rate_for(64):.1e} {rate_for(128):.1e} {rate_for(256):.1e} {rate_for(768):.1e}"
    '1.0e-03 1.0e-03 2.7e-04 3.3e-05'
    """
    return min(_RATE, _RATE * (_WIDTH / width) ** _POWER)


def rate_beside(width: int) -> float:
    """Peak rate for what learns beside a frozen body: ten times that of the body itself, up to where narrow ones come apart.

    Source of the ten: "LoRA Without Regret" (Schulman et al. 2025, thinkingmachines.ai/blog/lora).

    >>> f"{rate_beside(128):.1e} {rate_beside(256):.1e} {rate_beside(768):.1e}"
    '5.0e-03 2.7e-03 3.3e-04'
    """
    return min(_MOST_BESIDE, 10 * rate_for(width))


def plan(
    parallel: Parallel, batches: SampleBatches, *, epochs: float, steps: int | None, budget: Budget | None, optimiser: str,
    rated: bool, spent_s: float,
) -> dict[str, Any]:  # fmt: skip
    """Steps, the seconds of a time budget, and the optimiser's settings that were left open, with the reasons."""
    each = getattr(batches, "each", f"samples, {batches.size_of_step} a step")
    reasons = [f"{len(batches.samples):,} {each}: {batches.steps_per_epoch:,.1f} steps an epoch"]
    seconds = None
    if steps is not None:
        reasons.append(f"{steps} steps, as given")
    elif budget is None:
        steps = max(math.ceil(epochs * batches.steps_per_epoch), 1)
        reasons.append(f"{steps} steps: {epochs:g} epochs")
    else:
        steps, seconds = _afforded(parallel, batches, budget, spent_s)
        reasons.append(f"{steps} steps fit {budget}" + (", corrected as the run goes" if seconds else ""))
    width = parallel.model.config.width
    pace = batches.objective.pace
    beside = any(is_adapted(part) for part in parallel.model.modules())
    chosen = {} if rated or optimiser != "adamw" else {"learning_rate": (rate_beside if beside else rate_for)(width) * pace}
    if chosen:
        slower = "" if pace == 1 else f", and {batches.objective.config.name} takes {pace:g} of what suits supervised fine-tuning"
        still = " and stays as it is" if beside else ""
        reasons.append(f"learning rate {chosen['learning_rate']:.2g}: the body is {width} wide{still}{slower}")
    return {"steps": steps, "seconds": seconds, "optimiser": chosen, "reasons": reasons}


def _afforded(parallel: Parallel, batches: SampleBatches, budget: Budget, spent_s: float) -> tuple[int, float | None]:
    """Steps that a budget pays for; a time budget also gives the seconds that are left."""
    started = time.monotonic()
    tried: Any = batches.trial() if hasattr(batches, "trial") else batches  # answers of the model itself take time to write
    first = [tried.step(step) for step in range(_TIMED)]
    tokens = sum(batch.read_count for step in first for batch in step) * batches.processes / _TIMED
    if budget.unit == "tokens":
        return max(int(budget.amount / tokens), 1), None
    if budget.unit == "flops":
        return max(int(budget.amount / tokens / parallel.model.flops_per_token(batches.row_tokens)), 1), None
    for step in first:
        for index, batch in enumerate(step):
            with parallel.micro(last=index == len(step) - 1):
                parallel.loss_sum(batch).backward()
        parallel.model.zero_grad(set_to_none=True)
    step_s = (time.monotonic() - started) / _TIMED * 1.1  # the optimiser takes its share
    left = max(budget.amount - spent_s - (time.monotonic() - started), step_s)
    return max(int(left / step_s), 1), left
