"""What fine-tuning decides before its first step, and what it tells after its last: steps, rate, ledger, card, report.

The peak rate follows from the body's width: wide pre-trained bodies want far smaller steps than the narrow ones that a
processor trains. The rule joins two ends: 2e-5 to 5e-5 for BERT's 768 channels (arXiv:1810.04805, A.3), and half of what AdamW
takes here to train bodies of 128 channels from nothing.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from danlu.core.machine import describe
from danlu.core.page import Page, write_report
from danlu.core.units import Budget, count, duration
from danlu.train.loop import Run
from danlu.train.parallel import Parallel
from danlu.train.report import add_curves, add_ledger, add_plan, by_kind, facts, headline
from danlu.train.samples import SampleBatches, Samples

_WIDTH, _RATE, _POWER = 128, 1e-3, 1.9
_TIMED = 3  # steps whose time says how many fit a budget


def rate_for(width: int) -> float:
    """Peak rate of AdamW for a body of that width.

    >>> f"{rate_for(64):.1e} {rate_for(128):.1e} {rate_for(256):.1e} {rate_for(768):.1e}"
    '1.0e-03 1.0e-03 2.7e-04 3.3e-05'
    """
    return min(_RATE, _RATE * (_WIDTH / width) ** _POWER)


def plan(
    parallel: Parallel, batches: SampleBatches, *, epochs: float, steps: int | None, budget: Budget | None, optimiser: str,
    rated: bool, spent_s: float,
) -> dict[str, Any]:  # fmt: skip
    """Steps, the seconds of a time budget, and the optimiser's settings that were left open, with the reasons."""
    reasons = [f"{len(batches.samples):,} samples, {batches.size_of_step} a step: {batches.steps_per_epoch:,.1f} steps an epoch"]
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
    chosen = {} if rated or optimiser != "adamw" else {"learning_rate": rate_for(width)}
    if chosen:
        reasons.append(f"learning rate {chosen['learning_rate']:.2g}: the body is {width} wide")
    return {"steps": steps, "seconds": seconds, "optimiser": chosen, "reasons": reasons}


def _afforded(parallel: Parallel, batches: SampleBatches, budget: Budget, spent_s: float) -> tuple[int, float | None]:
    """Steps that a budget pays for; a time budget also gives the seconds that are left."""
    first = [batches.step(step) for step in range(_TIMED)]
    tokens = sum(batch.read_count for step in first for batch in step) * batches.processes / _TIMED
    if budget.unit == "tokens":
        return max(int(budget.amount / tokens), 1), None
    if budget.unit == "flops":
        return max(int(budget.amount / tokens / parallel.model.flops_per_token(batches.row_tokens)), 1), None
    started = time.monotonic()
    for step in first:
        for index, batch in enumerate(step):
            with parallel.micro(last=index == len(step) - 1):
                parallel.loss_sum(batch).backward()
        parallel.model.zero_grad(set_to_none=True)
    step_s = (time.monotonic() - started) / _TIMED * 1.1  # the optimiser takes its share
    left = max(budget.amount - spent_s - (time.monotonic() - started), step_s)
    return max(int(left / step_s), 1), left


def ledger(run: Run, samples: Mapping[str, Samples]) -> dict[str, Any]:
    """Where every sample went: samples = dropped + those with parts; parts = samples that were trained on, an epoch."""
    made: Any = run.batches
    left_out = run.done.left_out_steps
    served = (run.step - left_out) * made.size_of_step
    return {
        **{split: dict(part.ledger) for split, part in samples.items()},
        "training": {"served": served, "epochs": round(served / len(samples["train"]), 6), "tokens": run.done.tokens,
                     "left_out_steps": left_out},
    }  # fmt: skip


def metrics(run: Run, model: Any) -> dict[str, Any]:
    """Headline figures of the run."""
    found = {"parameters": sum(part.numel() for part in model.parameters()), "steps": run.step, "tokens": run.done.tokens,
             "seconds": round(run.seconds, 3), "tokens_per_s": run.done.tokens / max(run.seconds, 1e-9)}  # fmt: skip
    return found | ({"heldout_loss": run.done.heldout["loss"]} if run.done.heldout else {})


_USE = {
    "classify": '.classify(["a text"])', "regress": '.classify(["a text"])', "tag": '.tag("a text")',
    "extract": '.answer("a question", "a text that answers it")', "embed": '.embed(["a text"])',
}  # fmt: skip


def card(name: str, model: Any, draft: Any, settings: Mapping[str, Any]) -> str:
    """README.md of the model's folder."""
    head = model.config.head
    tags = {"classify": "text-classification", "regress": "text-classification", "tag": "token-classification",
            "extract": "question-answering", "embed": "sentence-similarity"}  # fmt: skip
    lines = ["---", f"library_name: transformers\npipeline_tag: {tags[head.task]}\ntags: [danlu]", "---", "", f"# {name}", ""]
    lines += [f"A {model.config.name} model with {count(draft.metrics['parameters'])} parameters and a head for `{head.task}`, "
              f"fine-tuned with Danlu.", ""]  # fmt: skip
    if head.labels:
        lines += [f"Labels: {', '.join(head.labels[:100])}.", ""]
    if head.task == "regress":
        lines += [f"The score counts deviations: number = {head.mean:g} + {head.deviation:g} x score.", ""]
    lines += ["## Use", "", "```python", "import danlu", "", f'danlu.load("{name}"){_USE[head.task]}', "```", ""]
    lines += ["`transformers` opens the folder where it has a class for this family and task. Danlu puts the first special "
              "token before each text (an encoder's closing one behind it too); give transformers the same.", ""]  # fmt: skip
    lines += ["## Measured", "", "| what | value |", "|---|---|"]
    lines += [f"| {key.replace('_', ' ')} | {_shown(key, value)} |" for key, value in draft.metrics.items()]
    lines += ["", f"Licences of the samples: {', '.join(draft.licences) or 'not recorded'}. Sources: {', '.join(draft.sources)}."]
    lines += ["", "## Settings", "", "```json", json.dumps(settings, ensure_ascii=False, indent=1, default=str), "```", ""]
    lines += [
        "`lineage.json` leads to the body and the samples; `report.html` shows how the training went and what it gets wrong."
    ]
    return "\n".join(lines) + "\n"


def _shown(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value['value']:.4f} (95 %: {value['low']:.4f} to {value['high']:.4f})"
    return duration(value) if key == "seconds" else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def report(
    folder: Path, draft: Any, *, title: str, settings: Mapping[str, Any], parts: Callable[[Page], None] | None = None
) -> None:
    """report.html and report.json: curves, what the judge found (`parts`), ledger, inputs, settings."""
    events = by_kind(folder)
    figures = headline(events)
    page = Page(title, f"{folder.name}: {len(events['step'])} logged steps")
    page.facts(facts(figures))
    add_plan(page, events["plan"])
    add_curves(page, events)
    if parts:
        parts(page)
    page.heading("Sample ledger")
    add_ledger(page, draft.ledger)
    page.heading("Made from")
    page.table(["role", "id", "path"], [(source.role, source.id, source.path) for source in draft.inputs])
    page.fold("All settings", json.dumps(settings, ensure_ascii=False, indent=2, default=str))
    page.fold("Machine", json.dumps(describe(), ensure_ascii=False, indent=2))
    everything = {**figures, "metrics": draft.metrics, "ledger": draft.ledger, "settings": settings, "machine": describe()}
    write_report(draft.path, page, everything)
