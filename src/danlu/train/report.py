"""The report of a training run: one self-contained page from the run's event log, while it goes or when it is done.

Curves, samples over time, token ledger, what the guard did, settings, machine, lineage.
"""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from danlu.core import log
from danlu.core.lineage import Input
from danlu.core.machine import describe
from danlu.core.page import Page, new_figure, write_report
from danlu.core.units import count, duration, size
from danlu.train.report_rollouts import add_rollouts

Events = list[dict[str, Any]]


def write(
    run: Path, folder: Path, *, title: str = "Training run", settings: Mapping[str, Any] | None = None,
    ledger: Mapping[str, Any] | None = None, inputs: Sequence[Input] = (), metrics: Mapping[str, Any] | None = None,
    parts: Callable[[Page], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write `report.html` and `report.json` into `folder` from the events of a run folder; returns the figures.

    metrics: what was measured after the last step, for report.json; parts: writes what it means behind the curves.
    """
    events = by_kind(run)
    figures = headline(events)
    page = Page(title, f"{run.name}: {len(events['step'])} logged steps")
    page.facts(facts(figures))
    add_plan(page, events["plan"])
    add_curves(page, events)
    add_experts(page, events.get("experts", []))
    add_rollouts(page, events)
    add_samples(page, events["sample"])
    if parts:
        parts(page)
    _add_guard(page, events["guard"])
    if ledger:
        page.heading("Token ledger" if "tokens" in ledger else "Sample ledger")
        add_ledger(page, ledger)
    if inputs:
        page.heading("Made from")
        page.table(["role", "id", "path"], [(source.role, source.id, source.path) for source in inputs])
    page.heading("Settings and machine")
    if settings:
        page.fold("All settings", json.dumps(settings, ensure_ascii=False, indent=2, default=str))
    page.fold("Machine", json.dumps(describe(), ensure_ascii=False, indent=2))
    measured = {"metrics": metrics} if metrics else {}
    write_report(folder, page, {**figures, **measured, "settings": settings or {}, "ledger": ledger or {}, "machine": describe()})
    return figures


def by_kind(run: Path) -> dict[str, Events]:
    """Events of a run grouped by kind. Steps done twice (after a resume) count once, by their last record."""
    grouped: dict[str, Events] = {kind: [] for kind in ("plan", "step", "heldout", "sample", "guard", "checkpoint")}
    for event in log.read_events(run / "events.jsonl"):
        grouped.setdefault(event["kind"], []).append(event)
    for kind in ("step", "heldout", *({"rollout", "policy", "judged"} & set(grouped))):
        grouped[kind] = sorted({event["step"]: event for event in grouped[kind]}.values(), key=lambda event: event["step"])
    return grouped


def headline(events: Mapping[str, Events]) -> dict[str, Any]:
    """The figures that matter first; keys absent where the run has not measured them."""
    steps, heldout = events["step"], events["heldout"]
    found: dict[str, Any] = {}
    if steps:
        last = steps[-1]
        found |= {
            "steps": last["step"],
            "tokens": last.get("tokens"),
            "train_loss": last.get("loss"),
            "seconds": last.get("seconds"),
        }
        rates = [event["tokens_per_s"] for event in steps if event.get("tokens_per_s")]
        found["tokens_per_s"] = statistics.median(rates) if rates else None
        uses = [event["mfu"] for event in steps if event.get("mfu")]
        found["mfu"] = statistics.median(uses) if uses else None
        found["memory_bytes"] = max((event.get("memory_bytes") or 0 for event in steps), default=0) or None
    if heldout:
        best = min(heldout, key=lambda event: event["loss"])
        final = [*heldout, *events.get("heldout_final", ())][-1]
        found |= {name: final.get(name) for name in ("bits_per_byte", "accuracy")}
        found |= {"heldout_loss": final["loss"], "unit": final.get("unit", "token")}
        found |= {"best_step": best["step"], "best_heldout_loss": best["loss"]}
    return {name: value for name, value in found.items() if value is not None}


def add_plan(page: Page, plans: Events) -> None:
    """What the budget chose and why."""
    reasons = [reason for plan in plans[-1:] for reason in plan.get("reasons", ())]
    if reasons:
        page.heading("What was chosen, and why")
        page.code("\n".join(reasons))


def add_curves(page: Page, events: Mapping[str, Events]) -> None:
    """Loss against tokens, the best held-out figure against time, and how the machine was used."""
    steps, heldout = events["step"], events["heldout"]
    if len(steps) < 2:
        page.text("Too few steps were logged for curves.")
        return
    page.heading("Curves")
    figure, (left, right) = new_figure(10, 3.4, columns=2)
    tokens = [event["tokens"] for event in steps]
    losses = [event["loss"] for event in steps]
    left.plot(tokens, losses, color="#c9b8b2", linewidth=0.8, label="each logged step")
    left.plot(tokens, smooth(losses), color="#b5432a", label="smoothed")
    if heldout:
        left.plot([event["tokens"] for event in heldout], [event["loss"] for event in heldout], "o-", color="#20558a",
                  markersize=4, label="held out")  # fmt: skip
    figure_name, words, better = _judged_by(heldout)
    scores = [event for event in heldout if event.get(figure_name) is not None]
    right.plot([event["seconds"] for event in scores], [event[figure_name] for event in scores], "o-", color="#20558a",
               markersize=4)  # fmt: skip
    if len(scores) >= 2:
        right.annotate(f"{scores[-1][figure_name]:.3f}", (scores[-1]["seconds"], scores[-1][figure_name]),
                       textcoords="offset points", xytext=(-6, 8), ha="right")  # fmt: skip
    window = _window(losses, [event["loss"] for event in heldout])
    left.set(xlabel="tokens trained on", ylabel=f"loss, nats per {_unit(heldout)}", ylim=window)
    left.locator_params(axis="x", nbins=5)  # millions of tokens are long numbers
    left.legend(frameon=False)
    right.set(xlabel="seconds of training", ylabel=f"held-out {words}")
    taken = events.get("weights", ())[-1:]
    for at in [event for event in scores for one in taken if event["step"] == one["step"]]:
        right.plot([at["seconds"]], [at[figure_name]], "o", markersize=11, fillstyle="none", color="#b5432a")
    page.figure(figure, f"Loss on training and held-out text (lower is better), and held-out {words} against time ({better} is "
                        f"better).")  # fmt: skip
    for one in taken:
        page.text(
            f"The model has the weights of step {one['step']} (ringed): the held-out loss was lowest there, {one['loss']:.4g}, "
            f"and ended at {one['last_loss']:.4g}. From there on the text was learned by heart."
        )
    figure, axes = new_figure(10, 2.4, columns=3)
    for axis, (key, label) in zip(
        axes, (("lr", "learning rate"), ("grad_norm", "gradient norm"), ("tokens_per_s", "tokens per second"))
    ):
        pairs = [(event["step"], event[key]) for event in steps if event.get(key) is not None and math.isfinite(event[key])]
        axis.plot([step for step, _ in pairs], [value for _, value in pairs], color="#5a6b3b", linewidth=0.9)
        axis.set(xlabel="step", ylabel=label)
    page.figure(figure, "Learning rate, gradient norm and speed by step.")


def _judged_by(heldout: Events) -> tuple[str, str, str]:
    """The figure by which a run is judged: its name in events, in words, and which way is better."""
    known = (("bits_per_byte", "bits per byte", "lower"), ("accuracy", f"share of {_unit(heldout)}s named right", "higher"))
    return next((one for one in known if any(one[0] in event for event in heldout)), ("loss", "loss", "lower"))


def _unit(heldout: Events) -> str:
    return str(heldout[-1].get("unit", "token")) if heldout else "token"


def add_experts(page: Page, uses: Events) -> None:
    """How tokens spread over the experts of each sparse layer: how even over time, and who got what in the end."""
    if not uses:
        return
    page.heading("Use of the experts")
    figure, (left, right) = new_figure(10, 3.0, columns=2)
    evenness = [[_evenness(share) for share in use["share"]] for use in uses]
    for layer in range(len(evenness[0])):
        left.plot([use["step"] for use in uses], [one[layer] for one in evenness], ".-", linewidth=0.9, label=str(layer))
    left.set(xlabel="step", ylabel="evenness", ylim=(0, 1.05))
    last = uses[-1]["share"]
    experts = len(last[0])
    picture = right.imshow([[share * experts for share in row] for row in last], aspect="auto", cmap="RdBu_r", vmin=0, vmax=2)
    right.set(xlabel="expert", ylabel="sparse layer", xticks=_few(experts), yticks=_few(len(last)))
    right.grid(False)
    figure.colorbar(picture, ax=right, label="times an equal share")
    page.figure(
        figure,
        "Left: evenness of each sparse layer, the entropy of its experts' shares over that of equal ones; 1 is equal. "
        f"Right: what each expert got in the last stretch, up to step {uses[-1]['step']}. No token is dropped.",
    )


def _evenness(shares: Sequence[float]) -> float:
    """Entropy of shares over that of equal ones.

    >>> _evenness([0.5, 0.5, 0.0, 0.0])
    0.5
    """
    return -sum(share * math.log(share) for share in shares if share > 0) / math.log(len(shares)) if len(shares) > 1 else 1.0


def _few(number: int) -> list[int]:
    """Some of the whole numbers below `number`, evenly apart."""
    return list(range(0, number, max(1, number // 8)))


def add_samples(page: Page, samples: Events) -> None:
    """What the model wrote as it learned: first, middle and last in full, the others folded."""
    if not samples:
        return
    page.heading("Samples while it learned")
    shown = {0, len(samples) // 2, len(samples) - 1}
    for index, sample in enumerate(samples):
        text = f"{sample['prompt']}{sample['text']}"
        if index in shown:
            page.text(f"Step {sample['step']}:")
            page.code(text)
        else:
            page.fold(f"Step {sample['step']}", text)


def add_ledger(page: Page, ledger: Mapping[str, Any]) -> None:
    """A ledger as tables: amounts of one kind in one table, nested ledgers below, each under its own name."""
    _ledger_part(page, ledger, "amount")


def _ledger_part(page: Page, part: Mapping[str, Any], name: str) -> None:
    plain = {key: value for key, value in part.items() if not isinstance(value, Mapping | list)}
    if plain:
        page.table([name, ""], plain.items())
    rows = {key: value for key, value in part.items() if isinstance(value, Mapping) and value}
    flat = {key: row for key, row in rows.items() if not any(isinstance(value, Mapping) for value in row.values())}
    if flat:
        columns = list(dict.fromkeys(column for row in flat.values() for column in row))
        page.table([name, *columns], [(key, *(row.get(column, "") for column in columns)) for key, row in flat.items()])
    for key, row in rows.items():
        if key not in flat:
            _ledger_part(page, row, key if name == "amount" else f"{name}, {key}")


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average with bias correction, skipping what is not finite.

    >>> [round(value, 3) for value in smooth([4.0, 4.0, 2.0])]
    [4.0, 4.0, 3.262]
    """
    mean, mass, result = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            mean, mass = weight * mean + (1 - weight) * value, weight * mass + 1 - weight
        result.append(mean / mass if mass else math.nan)
    return result


def facts(figures: Mapping[str, Any]) -> dict[str, str]:
    """The headline figures in words, for the top of a page."""
    words = {
        "bits_per_byte": ("bits per byte, held out", lambda value: f"{value:.4f}"),
        "heldout_loss": (f"nats per {figures.get('unit', 'token')}, held out", lambda value: f"{value:.4f}"),
        "accuracy": (f"of {figures.get('unit', 'token')}s named right, held out", lambda value: f"{value:.1%}"),
        "tokens": ("tokens trained on", count), "steps": ("steps", str), "seconds": ("training time", duration),
        "tokens_per_s": ("tokens per second", count), "mfu": ("of the matmul peak", lambda value: f"{value:.0%}"),
        "memory_bytes": ("peak memory", size),
    }  # fmt: skip
    return {label: show(figures[name]) for name, (label, show) in words.items() if name in figures}


def _add_guard(page: Page, guards: Events) -> None:
    if guards:
        page.heading("Guard")
        columns = ("step", "reason", "action", "culprit")
        page.table(columns, [[event.get(column) for column in columns] for event in guards])


def _window(losses: Sequence[float], heldout: Sequence[float]) -> tuple[float, float] | tuple[None, None]:
    """Where most of the losses lie, and the lowest held-out one with a rise from it: both ends of the axis."""
    finite = sorted(loss for loss in losses if math.isfinite(loss))
    if not finite:
        return None, None
    top = finite[-max(len(finite) // 50, 1)] + 0.1
    return finite[0] - 0.1, max(top, 1.5 * min((loss for loss in heldout if math.isfinite(loss)), default=0.0))
