"""Reinforcement on sums whose answers can be checked: from a few right answers to nearly all, in CPU minutes, over three seeds.

A model of 0.1M weights that knows nothing is taught the form of an answer, and a little of adding, by a few hundred steps on
conversations (`danlu finetune`); then `danlu align` lets it try. Sums are 0..99 + 0..9; those that are judged, greedily, a
tenth, are in neither. Every objective and seed keeps its curves, drawn in
docs/assets/verifiable.svg. One thread; seconds are the processor's.
Usage: verifiable.py [--objectives grpo ppo] [--seeds 0 1 2] [--steps 300] [--work FOLDER]
Runs that lie in FOLDER already are told along.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

OBJECTIVES = {
    "grpo": {"name": "grpo"},
    "ppo": {"name": "ppo", "kl": 0.0},
    "rloo": {"name": "rloo", "kl": 0.0},
    "reinforce_pp": {"name": "reinforce_pp", "kl": 0.0},
}
ROLLOUTS = {"prompts": 48, "answers": 8, "max_tokens": 5, "judge": 10, "judge_prompts": 200}
RATE = 5e-4
SCHEDULE = {"name": "wsd", "warmup": 0.02, "decay": 0.4}
COLOURS = {"grpo": "#b5432a", "ppo": "#20558a", "rloo": "#5a6b3b", "reinforce_pp": "#8a6d1f"}


def begun(folder, seed):
    """A model that knows nothing, with a tokenizer of bytes and a chat template."""
    from danlu.models import MODELS
    from danlu.models.weights import save_model
    from danlu.tokenizer.chat import CHATML
    from danlu.tokenizer.trainers import TRAINERS
    from danlu.tokenizer.turns import with_template

    made = TRAINERS.build(TRAINERS["bytes"].Config()).train(iter(["0"]), ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer = with_template(made, CHATML)
    config = MODELS["llama"].Config(
        vocab_size=tokenizer.vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.1, bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id,
    )  # fmt: skip
    folder.mkdir(parents=True)
    tokenizer.save(folder)
    save_model(MODELS["llama"](config, seed), folder)
    return folder


def data(folder, seed):
    """The sums as prompts, a tenth of them held out, and the others as conversations too."""
    import danlu
    from danlu.core import log
    from danlu.data.shards import read_documents

    folder.mkdir(parents=True)
    pairs = [(a, b) for a in range(100) for b in range(10)]
    asked = [{"prompt": [{"role": "user", "content": f"{a}+{b}"}], "answer": str(a + b)} for a, b in pairs]
    more = {"dedups": [], "engine": "sequential", "seed": seed}
    with log.silent():
        prompts = danlu.prepare(str(_lines(folder / "prompts.jsonl", asked)), out=folder / "prompts", form="verifiable",
                                holdout=0.1, **more).path  # fmt: skip
        learned = [one.sample for one in read_documents(prompts, "train")]
        said = [{"messages": [*json.loads(one["prompt"]), {"role": "assistant", "content": one["answer"]}]} for one in learned]
        talks = danlu.prepare(str(_lines(folder / "talks.jsonl", said)), out=folder / "talks", form="messages", holdout=0.0,
                              **more).path  # fmt: skip
    return prompts, talks


def _lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one(objective, seed, steps, taught_steps, work):
    """Teach, let it try, and tell how it went."""
    import danlu
    from danlu.core import log

    folder = work / f"{objective}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    prompts, talks = data(folder / "data", seed)
    base = begun(folder / "base", seed)
    quiet = {"judge": {"questions": 0, "text_tokens": 0}, "seed": seed}
    started = time.process_time()
    with log.silent():
        taught = danlu.finetune(
            base, talks, out=folder / "taught", objective="sft", steps=taught_steps, batch=48, **quiet,
            optimiser={"name": "adamw", "learning_rate": 3e-3}, schedule={**SCHEDULE, "decay": 0.05},
        )  # fmt: skip
    teach_s = time.process_time() - started
    started = time.process_time()
    with log.silent():
        danlu.align(
            taught.path, prompts, out=folder / "out", objective=OBJECTIVES[objective], rewards=["exact"], rollouts=ROLLOUTS,
            steps=steps, schedule=SCHEDULE, optimiser={"name": "adamw", "learning_rate": RATE}, **quiet,
        )  # fmt: skip
    spent = time.process_time() - started
    events = list(log.read_events(folder / "out.run" / "events.jsonl"))
    drawn = [(event["step"], event["reward"]) for event in events if event["kind"] == "rollout"]
    judged = [(event["step"], event["reward"]) for event in events if event["kind"] == "judged"]
    return {
        "objective": objective, "seed": seed, "start": judged[0][1], "end": judged[-1][1], "drawn_start": drawn[0][1],
        "drawn_end": statistics.fmean(reward for _, reward in drawn[-10:]), "cpu_minutes": round(spent / 60, 3),
        "taught_cpu_minutes": round(teach_s / 60, 3), "judged": judged, "drawn": drawn,
    }  # fmt: skip


def short(runs):
    """Runs that began too well or ended too badly for the claim, in words."""
    return [f"{run['objective']} seed {run['seed']} ({run['start']:.2f} to {run['end']:.2f})" for run in runs
            if run["start"] > 0.5 or run["end"] < 0.9]  # fmt: skip


def draw(runs, path):
    """Held-out accuracy of every run over its steps."""
    import matplotlib as mpl

    from danlu.core.page import new_figure

    figure, (left, right) = new_figure(10, 3.4, columns=2)
    for run in runs:
        told = {"color": COLOURS[run["objective"]], "linewidth": 1.0, "alpha": 0.8}
        label = run["objective"] if run["seed"] == min(one["seed"] for one in runs) else None
        left.plot(*zip(*run["judged"], strict=True), ".-", label=label, **told)
        right.plot(*zip(*run["drawn"], strict=True), label=label, **told)
    left.set(xlabel="step", ylabel="held-out sums right, greedy", ylim=(0, 1.02))
    right.set(xlabel="step", ylabel="reward of the answers drawn", ylim=(0, 1.02))
    left.legend(frameon=False)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "danlu"}):
        figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")


def main():
    import torch
    from benchmarks.harness import RESULTS, save

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objectives", nargs="+", default=["grpo", "ppo"], choices=list(OBJECTIVES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--taught", type=int, default=240)
    parser.add_argument("--work", type=Path)
    words = parser.parse_args()
    work = words.work or Path(tempfile.mkdtemp(prefix="verifiable-"))
    for seed in words.seeds:
        for objective in words.objectives:
            run = one(objective, seed, words.steps, words.taught, work)
            (work / f"{objective}-{seed}.json").write_text(json.dumps(run), encoding="utf-8")
            runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(work.glob("*.json"))]
            shown = {name: value for name, value in run.items() if name not in ("judged", "drawn")}
            print(json.dumps(shown), flush=True)
            settings = {"steps": words.steps, "taught": words.taught, "rollouts": ROLLOUTS, "rate": RATE, "threads": 1}
            beside = ", ".join(short(runs)) or "none"
            save(
                "verifiable", claim="PPO and GRPO raise the share of right sums, held out, over three seeds",
                target="from below 0.5 to 0.9 or more, in less than ten processor minutes each", settings=settings, figures=runs,
                versions={"torch": torch.__version__},
                notes=f"cpu_minutes: processor time of align, start included. Short of the target: {beside}",
            )  # fmt: skip
            draw(runs, RESULTS.parents[1] / "docs" / "assets" / "verifiable.svg")


if __name__ == "__main__":
    main()
