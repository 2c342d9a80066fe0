"""What `danlu sample` writes: shards, the books of prompts and answers, a card, a report with what more answers would give."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from danlu.core.page import Page, new_figure, write_report
from danlu.data.forms.talk import compact, spoken
from danlu.data.shards import ShardWriter, schema
from danlu.metrics.interval import Estimate, ratio
from danlu.metrics.pass_at_k import best_of
from danlu.train.choosing import REASONS, Chosen, Rule, choose
from danlu.train.harvest import Answer, Prompt, facts

if TYPE_CHECKING:
    from danlu.stages.sample import Sample

_ROWS = 1000
"""Samples of a row group."""
_SHOWN = 6


@dataclass
class Tally:
    """Where all prompts and answers went; `check` says whether that adds up. answers: written to each prompt."""

    answers: int
    prompts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    rows: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    documents: Counter[str] = field(default_factory=Counter)
    rewards: list[list[float]] = field(default_factory=list)
    """Of each prompt's answers."""
    kept: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    tokens: int = 0
    ended: int = 0
    shown: list[tuple[Prompt, list[Answer], Chosen]] = field(default_factory=list)

    def read(self, split: str, prompts: int, overlong: int) -> None:
        """Book the prompts of a split."""
        self.prompts[split].update({"read": prompts, "overlong": overlong})

    def add(self, split: str, prompt: Prompt, answers: list[Answer], chosen: Chosen, documents: int) -> None:
        """Book the answers to a prompt."""
        self.prompts[split]["kept" if chosen.kept else "nothing stays"] += 1
        self.rows[split].update({"written": len(answers), "kept": len(chosen.kept)} | chosen.dropped)
        self.documents[split] += documents
        self.rewards.append([one.reward for one in answers])
        self.kept += [one.reward for one in chosen.kept]
        for one in answers:
            self.tokens, self.ended = self.tokens + one.tokens, self.ended + one.ended
            for name, value in one.parts.items():
                self.parts[name].append(value)
        if len(self.shown) < _SHOWN:
            self.shown.append((prompt, answers, chosen))

    @property
    def asked(self) -> int:
        """Prompts that were answered."""
        return len(self.rewards)

    @property
    def written(self) -> int:
        """Answers in all."""
        return sum(row["written"] for row in self.rows.values())

    def ledger(self) -> dict[str, Any]:
        """Prompts read = overlong + nothing stays + kept; answers written = kept + all reasons. AssertionError else."""
        for prompts in self.prompts.values():
            assert prompts["read"] == prompts["overlong"] + prompts["nothing stays"] + prompts["kept"], prompts
        for rows in self.rows.values():
            assert rows["written"] == rows["kept"] + sum(rows[reason] for reason in REASONS), rows
        names = ("written", "kept", *REASONS)
        return {
            "prompts": {split: {name: part[name] for name in ("read", "overlong", "nothing stays", "kept")}
                        for split, part in self.prompts.items()},
            "answers": {split: {name: part[name] for name in names} for split, part in self.rows.items()},
            "documents": dict(self.documents),
        }  # fmt: skip

    def curve(self) -> dict[int, Estimate]:
        """What the best of k answers is worth on average, for k = 1, 2, 4, ... and all; over prompts."""
        sizes = sorted({*(2**at for at in range(self.answers.bit_length()) if 2**at <= self.answers), self.answers})
        ones = [1.0] * len(self.rewards)
        return {size: ratio([best_of(part, size) for part in self.rewards], ones) for size in sizes}

    def metrics(self) -> dict[str, Any]:
        """Headline figures."""
        every = np.array([value for part in self.rewards for value in part])
        found = {
            "prompts": self.asked, "answers": self.written, "kept": len(self.kept), "reward": float(every.mean()),
            "reward_std": float(every.std()), "kept_reward": float(np.mean(self.kept)), "ended": self.ended / self.written,
            "answer_tokens": self.tokens / self.written,
        }  # fmt: skip
        found |= {f"reward_{name}": float(np.mean(part)) for name, part in self.parts.items()}
        return found | {f"best_of_{size}": one.value for size, one in self.curve().items()}

    def why(self) -> str:
        """Why answers do not stay, the most frequent reason first."""
        total: Counter[str] = Counter()
        for rows in self.rows.values():
            total.update({reason: rows[reason] for reason in REASONS if rows[reason]})
        return ", ".join(f"{reason}: {count:,}" for reason, count in total.most_common()) or "there were none"

    def summary(self) -> str:
        """A few lines for the terminal."""
        lines = [f"{self.written:,} answers to {self.asked:,} prompts, {len(self.kept):,} stay in "
                 f"{sum(self.documents.values()):,} samples ({self.why()})"]  # fmt: skip
        if self.parts:
            best = ", ".join(f"{size}: {one.value:.3f}" for size, one in self.curve().items())
            lines.append(f"reward of the best of so many answers: {best}")
        return "\n".join(lines)


def write(folder: Path, split: str, gathered: Iterable[tuple[Prompt, list[Answer]]], rule: Rule, tally: Tally) -> None:
    """The shards of one split, from prompts with their answers."""
    columns = ("prompt", "chosen", "rejected", "tools") if rule.keep == "pairs" else ("messages", "tools")
    writer, rows = ShardWriter(folder, split, dict.fromkeys(columns, "text")), []
    for prompt, answers in gathered:
        chosen = choose(answers, rule)
        made = samples(prompt, chosen, rule)
        tally.add(split, prompt, answers, chosen, len(made))
        rows += made
        if len(rows) >= _ROWS:
            _put(writer, rows, columns)
            rows = []
    _put(writer, rows, columns)
    writer.close()


def samples(prompt: Prompt, chosen: Chosen, rule: Rule) -> list[dict[str, Any]]:
    """The rows that a prompt's answers become."""
    tools = compact(prompt.tools) if prompt.tools else ""
    said = [[{"role": "assistant", "content": one.text}] for one in chosen.kept]
    if rule.keep == "pairs" and said:
        best, worst = chosen.kept
        signals = [("reward_chosen", best.reward), ("reward_rejected", worst.reward)]
        told = [part for messages in (prompt.messages, *said) for part in spoken(messages)]
        columns = {"prompt": compact(prompt.messages), "chosen": compact(said[0]), "rejected": compact(said[1])}
        return [_row(prompt, 0, told, signals, {**columns, "tools": tools})]
    found = []
    for number, (one, answer) in enumerate(zip(chosen.kept, said, strict=True)):
        messages = [*prompt.messages, *answer]
        signals = [("reward", one.reward), *((f"reward_{name}", value) for name, value in one.parts.items())]
        found.append(_row(prompt, number, spoken(messages), signals, {"messages": compact(messages), "tools": tools}))
    return found


def _row(
    prompt: Prompt, number: int, told: Sequence[str], signals: list[tuple[str, float]], columns: dict[str, str]
) -> dict[str, Any]:
    return {"id": f"{prompt.document.id}-{number}", **facts(prompt), "text": "\n\n".join(told), "signals": signals, **columns}


def _put(writer: ShardWriter, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    import pyarrow as pa

    if rows:
        writer.write(pa.Table.from_pylist(rows, schema(dict.fromkeys(columns, "text"))))


def card(config: "Sample", tally: Tally) -> str:
    """README.md of the dataset."""
    ledger = tally.ledger()
    teaches = "`danlu align --objective.name dpo` (or reward, orpo, simpo)" if config.keep == "pairs" else "`danlu finetune`"
    lines = [
        "# Data card", "",
        f"Answers that the model `{config.model.name}` wrote to prompts of `{config.dataset.name}`: {config.answers} to each, of "
        f"which stays: {config.keep}. Made by `danlu sample`; `lineage.json` has every setting and leads to both. For "
        f"{teaches}.", "",
        "Nobody has read these answers. They are as right as the rewards that chose them, and as free to use as the model and "
        "its prompts are.", "", "## Where everything went", "",
    ]  # fmt: skip
    for title in ("prompts", "answers"):
        names = list(next(iter(ledger[title].values()), {}))
        lines += [f"| {title} | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
        lines += [
            f"| {split} | " + " | ".join(f"{part[name]:,}" for name in names) + " |" for split, part in ledger[title].items()
        ]
        lines.append("")
    lines += ["## Rewards", "", f"{', '.join(f'`{one.name}`' for one in config.rewards) or 'none'}. Mean over prompts of the "
              f"best of k answers, with a 95 % interval:", "", "| k | reward |", "|---|---|"]  # fmt: skip
    lines += [f"| {size} | {one.value:.4f} ({one.low:.4f} to {one.high:.4f}) |" for size, one in tally.curve().items()]
    return "\n".join(lines) + "\n"


def report(folder: Path, config: "Sample", tally: Tally) -> None:
    """report.html and report.json."""
    page = Page(
        f"Answers for {config.out.name}", f"{config.answers} answers to each of {tally.asked:,} prompts, kept: {config.keep}"
    )
    figures = tally.metrics()
    page.facts({"samples": sum(tally.documents.values()), "answers": tally.written, "mean reward": figures["reward"],
                "mean reward of what stays": figures["kept_reward"], "ended by itself": figures["ended"]})  # fmt: skip
    page.heading("Where everything went")
    for title, part in tally.ledger().items():
        if title != "documents" and part:
            names = list(next(iter(part.values())))
            page.table([title, *names], [[split, *(row[name] for name in names)] for split, row in part.items()])
    curve = tally.curve()
    if tally.parts:
        page.heading("Rewards")
        page.table(["reward", "mean"], [[name, float(np.mean(part))] for name, part in tally.parts.items()])
        page.figure(_curve(curve), "What the best of k answers is worth, mean over prompts with a 95 % interval")
        page.figure(_spread(tally), "How often each reward was given, of all answers and of those that stay")
    page.heading("Examples")
    for prompt, answers, chosen in tally.shown:
        kept = {one.text for one in chosen.kept}
        ranked = sorted(answers, key=lambda one: -one.reward)
        told = [f"{'*' if one.text in kept else ' '} {one.reward:8.3f}  {one.text}" for one in ranked]
        told += [f"known: {prompt.truth}"] if prompt.truth else []
        page.fold("\n".join(spoken(prompt.messages))[-120:], "\n".join(told))
    data = {**figures, "ledger": tally.ledger(), "curve": {size: vars(one) for size, one in curve.items()}}
    write_report(folder, page, data)


def _curve(curve: dict[int, Estimate]) -> Any:
    figure, axes = new_figure(6.0, 3.0)
    sizes = list(curve)
    axes.plot(sizes, [one.value for one in curve.values()], marker="o")
    axes.fill_between(sizes, [one.low for one in curve.values()], [one.high for one in curve.values()], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("answers k")
    axes.set_ylabel("reward of the best")
    return figure


def _spread(tally: Tally) -> Any:
    figure, axes = new_figure(6.0, 3.0)
    every = np.array([value for part in tally.rewards for value in part])
    edges = np.histogram_bin_edges(every, bins=min(30, max(5, len(np.unique(every)))))
    axes.hist(every, edges, alpha=0.5, label="all answers")
    axes.hist(tally.kept, edges, alpha=0.8, label="what stays")
    axes.set_xlabel("reward")
    axes.set_ylabel("answers")
    axes.legend(frameon=False)
    return figure
