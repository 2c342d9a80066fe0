"""Training time to the loss that nanoGPT's documented CPU configuration ends with, tiny Shakespeare by characters.

Both sides: the same 90/10 split and number of threads, whole-validation loss in windows that do not overlap, evaluation
kept out of the clock. nanoGPT trains as documented (4 layers x 128, context 64, batch 12, 2,000 steps, AdamW, cosine); ours
is the Qwen3 shape with our objective, optimiser and schedule. Losses are given in windows of 64 tokens for both, so that no
side profits from a longer context. Usage: time_to_quality.py --nanogpt CHECKOUT --text input.txt [--compiled]
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

WINDOW = 64
"""Tokens of an evaluation window, and of nanoGPT's context."""
SETTINGS = {
    "fast": {"width": 96, "inner": 256, "layers": 2, "heads": 3, "rows": 8, "steps": 360, "momentum": 0.8},
    "equal": {"width": 128, "inner": 384, "layers": 4, "heads": 4, "rows": 24, "steps": 0, "momentum": 0.88},
}
"""Ours: what reaches nanoGPT's loss soonest, and what uses nanoGPT's time best (its steps follow from that time)."""
RATES = {"learning_rate": 0.02, "table_rate": 0.012, "vector_rate": 0.012, "iterations": 4}


def splits(path):
    import numpy as np
    import torch

    text = Path(path).read_text(encoding="utf-8")
    number = {character: index for index, character in enumerate(sorted(set(text)))}
    ids = torch.from_numpy(np.array([number[character] for character in text], np.int64))
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(number)


def whole_loss(loss_sum, held_out):
    """Mean nats a token over every token of the split, the last short window included."""
    count = (len(held_out) - 1) // WINDOW
    x, y = held_out[: count * WINDOW].view(count, WINDOW), held_out[1 : count * WINDOW + 1].view(count, WINDOW)
    total = sum(loss_sum(x[at : at + 256], y[at : at + 256]) for at in range(0, count, 256))
    if count * WINDOW < len(held_out) - 1:
        total += loss_sum(held_out[count * WINDOW : -1][None], held_out[count * WINDOW + 1 :][None])
    return total / (len(held_out) - 1)


def follow(step, loss_sum, held_out, options, model):
    """Train and evaluate in turn; prints the curve as one JSON line. Only training is on the clock."""
    import torch

    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    curve, spent = [], 0.0
    for done in range(options.steps):
        started = clock()
        step(done)
        spent += clock() - started
        if (done + 1) % options.every == 0 or done + 1 == options.steps:
            model.eval()
            with torch.no_grad():
                curve.append({"step": done + 1, "seconds": spent, "loss": whole_loss(loss_sum, held_out)})
            model.train()
    print(
        json.dumps({"curve": curve, "parameters": sum(part.numel() for part in model.parameters()), "torch": torch.__version__})
    )


def nanogpt(options):
    """Its model and optimiser; the loop is its documented one without logging."""
    sys.path.insert(0, options.nanogpt)
    import torch
    from model import GPT, GPTConfig

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    train, held_out, vocab = splits(options.text)
    model = GPT(GPTConfig(block_size=WINDOW, vocab_size=vocab, n_layer=4, n_head=4, n_embd=128, dropout=0.0, bias=False))
    optimiser = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    forward = torch.compile(model) if options.compiled else model

    def batch():
        at = torch.randint(len(train) - WINDOW, (12,))
        return torch.stack([train[i : i + WINDOW] for i in at]), torch.stack([train[i + 1 : i + WINDOW + 1] for i in at])

    def step(done):
        warm, rest = 100, options.steps - 100
        cosine = 1e-4 + 0.5 * (1 + math.cos(math.pi * (done - warm) / rest)) * 9e-4
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (done + 1) / (warm + 1) if done < warm else cosine
        forward(*batch())[1].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    if options.compiled:  # compilation is a one-time cost that the clock leaves out
        forward(*batch())[1].backward()
        optimiser.zero_grad(set_to_none=True)
    follow(step, lambda x, y: model(x, y)[1].item() * y.numel(), held_out, options, model)


def danlu(options):
    """Our model, objective, optimiser and schedule."""
    import torch

    from danlu.models import MODELS
    from danlu.objectives import OBJECTIVES
    from danlu.objectives.base import Batch
    from danlu.train.optimisers import OPTIMISERS
    from danlu.train.parallel import compile_blocks
    from danlu.train.schedules import SCHEDULES

    torch.set_num_threads(options.threads)
    train, held_out, vocab = splits(options.text)
    size = {**SETTINGS[options.setting], **json.loads(options.size)}
    model = MODELS.build(MODELS[options.family].Config(
        vocab_size=vocab, hidden_size=size["width"], intermediate_size=size["inner"], num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], max_position_embeddings=WINDOW,
    ), options.seed)  # fmt: skip
    if options.dtype == "bfloat16":
        model.compute_dtype = torch.bfloat16
    if options.compiled:
        compile_blocks(model)
    kind = OPTIMISERS["muon"]
    rates = {**RATES, "momentum": size["momentum"], **json.loads(options.rates)}
    optimiser = kind(kind.Config(**rates, dtype=options.update_dtype), list(model.named_parameters()))
    schedule = SCHEDULES.build(SCHEDULES["wsd"].Config(decay=options.decay))
    objective = OBJECTIVES.build(OBJECTIVES["causal"].Config())
    order = torch.Generator().manual_seed(options.seed)
    queue = []

    def batch():
        """Rows of one epoch in random order, each once, cut at an offset that moves with the epoch."""
        if len(queue) < size["rows"]:
            offset = int(torch.randint(WINDOW, (), generator=order))
            count = (len(train) - 1 - offset) // WINDOW
            queue.extend((torch.randperm(count, generator=order) * WINDOW + offset).tolist())
        at = torch.tensor([queue.pop() for _ in range(size["rows"])])[:, None] + torch.arange(WINDOW)
        return Batch(train[at], train[at + 1])

    def step(done):
        for group in optimiser.param_groups:
            group["lr"] = group["base_lr"] * schedule.factor(done, options.steps)
        rows = batch()
        (objective.loss_sum(model, rows) / rows.target_count).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    if options.compiled:
        rows = batch()
        objective.loss_sum(model, rows).backward()
        optimiser.zero_grad(set_to_none=True)
    follow(step, lambda x, y: objective.loss_sum(model, Batch(x, y)).item(), held_out, options, model)


def side(name, options, **changes):
    """One side in its own process."""
    from benchmarks.harness import run

    settings = {**vars(options), **changes}
    words = [f"--{key}={value}" for key, value in settings.items() if not isinstance(value, bool) and value is not None]
    words += [f"--{key}" for key, value in settings.items() if value is True]
    command = [
        sys.executable,
        __file__,
        *[word for word in words if not word.startswith(("--side", "--repeats"))],
        f"--side={name}",
    ]
    env = {"OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return run(command, env=env).json()


def compare(options):
    from benchmarks.harness import ratio, save, spread

    found = {"nanogpt": [], "danlu_fast": [], "danlu_equal": []}
    fast_steps = SETTINGS["fast"]["steps"]
    for _ in range(options.repeats):
        theirs = side("nanogpt", options, steps=2000, every=500)
        ours = side("danlu", options, setting="fast", steps=fast_steps, every=25, compiled=False)
        pilot = side("danlu", options, setting="equal", steps=24, every=4, compiled=False)["curve"]
        step_s = (pilot[-1]["seconds"] - pilot[0]["seconds"]) / (pilot[-1]["step"] - pilot[0]["step"])
        steps = int(theirs["curve"][-1]["seconds"] / step_s)
        longer = side("danlu", options, setting="equal", steps=steps, every=max(steps // 4, 1), compiled=False)
        for name, result in zip(found, (theirs, ours, longer)):
            found[name].append(result)
            print(name, result["curve"][-1], file=sys.stderr, flush=True)
    target = max(run["curve"][-1]["loss"] for run in found["nanogpt"])
    times = [next(at["seconds"] for at in run["curve"] if at["loss"] <= target) for run in found["danlu_fast"]]
    full = [run["curve"][-1]["seconds"] for run in found["nanogpt"]]
    figures = {
        "target_loss": target,
        "seconds": {"nanogpt": spread(full), "danlu": spread(times)},
        "danlu / nanogpt": ratio(times, full),
        "loss_at_equal_time": {name: spread([run["curve"][-1]["loss"] for run in found[name]]) for name in found},
        "equal_time_seconds": spread([run["curve"][-1]["seconds"] for run in found["danlu_equal"]]),
        "runs": found,
    }
    name = "time_to_quality" + ("_compiled" if options.compiled else "") + ("_cpu" if options.clock == "cpu" else "")
    save(name, claim=__doc__.splitlines()[0], target="<= 1/3 of nanoGPT's training time, reach for 1/5",
         settings={**vars(options), "ours": SETTINGS, "our rates": RATES, "text": Path(options.text).name,
                   "nanogpt": "a checkout"},
         figures=figures, command=f"time_to_quality.py --nanogpt CHECKOUT --text input.txt --clock {options.clock}"
                                  + (" --compiled" if options.compiled else ""))  # fmt: skip
    print(json.dumps({key: value for key, value in figures.items() if key != "runs"}, indent=1))


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--text", required=True, help="tiny Shakespeare, input.txt")
    parser.add_argument("--compiled", action="store_true", help="nanoGPT through torch.compile (compilation not counted)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor seconds, for a shared machine")
    parser.add_argument("--side", choices=("nanogpt", "danlu"))
    parser.add_argument("--setting", choices=sorted(SETTINGS), default="fast")
    parser.add_argument("--size", default="{}", help="changes to the setting, JSON")
    parser.add_argument("--rates", default="{}", help="changes to the optimiser's settings, JSON")
    parser.add_argument("--family", default="qwen3")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--update_dtype", default="bfloat16")
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    chosen = options()
    os.environ.setdefault("OMP_NUM_THREADS", str(chosen.threads))
    {"nanogpt": nanogpt, "danlu": danlu, None: compare}[chosen.side](chosen)
