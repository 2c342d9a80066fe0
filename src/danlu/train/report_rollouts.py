"""The part of a run's report about the model's own answers: what they were worth, how long they were, how far it has moved."""

from collections.abc import Mapping, Sequence
from typing import Any

from danlu.core.page import Page, new_figure

Events = Sequence[Mapping[str, Any]]
_RED, _BLUE, _GREEN, _PALE = "#b5432a", "#20558a", "#5a6b3b", "#c9b8b2"


def add_rollouts(page: Page, events: Mapping[str, Events]) -> None:
    """Curves over the roll-outs, what held-out prompts were answered, and some answers in full; nothing where there are none."""
    rolled, steps, judged = events.get("rollout", ()), events.get("policy", ()), events.get("judged", ())
    if not rolled:
        return
    page.heading("The model's own answers")
    if judged:
        names = [name for name in judged[-1] if name not in ("time", "kind", "answers", "reward_error")]
        page.table(names, [[_judged(one, name) for name in names] for one in judged])
        page.text(f"Held-out prompts ({judged[-1]['answers']:.0f}), answered greedily: mean reward, tokens of an answer, part of "
                  f"them that ended by themselves.")  # fmt: skip
    if len(rolled) > 1:
        _rewards(page, rolled, judged)
        _movement(page, rolled, steps)
    cut, dull = (sum(one[name] for one in rolled) / len(rolled) for name in ("cut", "dull"))
    page.text(f"{cut:.1%} of the answers ran out of tokens; {dull:.1%} of the prompts taught nothing, because all their answers "
              f"were worth the same.")  # fmt: skip
    _answers(page, events.get("answer", ()))


def _rewards(page: Page, rolled: Events, judged: Events) -> None:
    figure, (left, middle, right) = new_figure(10, 3.0, columns=3)
    at = [one["step"] for one in rolled]
    means, spread = [one["reward"] for one in rolled], [one["reward_std"] for one in rolled]
    left.fill_between(at, [mean - one for mean, one in zip(means, spread, strict=True)],
                      [mean + one for mean, one in zip(means, spread, strict=True)], color=_PALE, alpha=0.4)  # fmt: skip
    left.plot(at, means, color=_RED, label="answers drawn")
    if judged:
        left.plot([one["step"] for one in judged], [one["reward"] for one in judged], "o-", color=_BLUE, markersize=4,
                  label="held out, greedy")  # fmt: skip
    left.set(xlabel="step", ylabel="reward")
    left.legend(frameon=False)
    single = [name for name in rolled[-1] if name.startswith("reward_") and not name.endswith("_std")]
    for name in single:
        middle.plot(at, [one.get(name) for one in rolled], label=name.removeprefix("reward_"))
    middle.set(xlabel="step", ylabel="each reward")
    if single:
        middle.legend(frameon=False)
    right.plot(at, [one["length"] for one in rolled], color=_GREEN)
    right.set(xlabel="step", ylabel="tokens of an answer")
    beside = right.twinx()
    beside.plot(at, [one["stopped"] for one in rolled], color=_BLUE, linewidth=0.8)
    beside.set(ylabel="ended by themselves", ylim=(0, 1.05))
    page.figure(
        figure, "Reward of the drawn answers (band: one deviation), each reward alone, and length with the part that ended."
    )


def _movement(page: Page, rolled: Events, steps: Events) -> None:
    known = (("kl", "divergence, nats a token"), ("entropy", "entropy, nats a token"), ("clipped", "part clipped"),
             ("stale", "from the draw, nats"), ("value_loss", "value loss"))  # fmt: skip
    drawn = [(name, label) for name, label in known if any(name in one for one in steps)]
    if not drawn:
        return
    figure, axes = new_figure(10, 2.4, columns=len(drawn))
    for axis, (name, label) in zip(axes if len(drawn) > 1 else [axes], drawn, strict=True):
        pairs = [(one["step"], one[name]) for one in steps if name in one]
        axis.plot([step for step, _ in pairs], [value for _, value in pairs], color=_GREEN, linewidth=0.9)
        axis.set(xlabel="step", ylabel=label)
    gap = max((one.get("engine_gap", 0.0) for one in rolled), default=0.0)
    page.figure(figure, f"How the model moves, by step. Engine and trainer differ by at most {gap:.1e} nats a token on the mean "
                        f"of a roll-out.")  # fmt: skip


def _answers(page: Page, answers: Events) -> None:
    """Those of the first, a middle and the last roll-out."""
    at = sorted({one["step"] for one in answers})
    for step in sorted({at[0], at[len(at) // 2], at[-1]} if at else ()):
        rows = {(one["prompt"], one["text"]): one for one in answers if one["step"] == step}
        lines = [f"{one['prompt']}\n-> {one['text']}{'' if one['ended'] else ' [cut]'}   (reward {one['reward']:g})"
                 for one in rows.values()]  # fmt: skip
        page.fold(f"Answers at step {step}", "\n\n".join(lines))


def _judged(one: Mapping[str, Any], name: str) -> str:
    beside = f" ± {1.96 * one['reward_error']:.2g}" if name == "reward" and "reward_error" in one else ""
    return _shown(one.get(name)) + beside


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
