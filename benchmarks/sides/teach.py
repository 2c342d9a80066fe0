"""One side of the teaching comparison, in a process of its own: what `benchmarks/teach_speed.py` prepared goes through the
product's real trainer; prints one JSON line with tokens a second and peak memory.

Tokens are those of the samples taught (prompts included), without padding; for roll-outs, those of the answers. Memory is
the most that was resident during training, less what was resident once all was imported.
"""

import argparse
import gc
import json
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

RANK, ALPHA = 8, 16
"""The adapter: on all seven matrices of a layer, on both sides."""
PATTERN = r"[a-m]\Z"
"""Answers that end like this are worth 1, others 0: as cheap as a reward can be, and chance decides, on both sides."""
MATRICES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def resident(name="VmRSS"):
    """Resident bytes of this process, now or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


class Clock:
    """Counts tokens and seconds from the end of the last step that warms up; loading and saving lie outside."""

    def __init__(self, warm, steps):
        self.warm, self.steps, self.tokens, self.done = warm, steps, 0, 0
        self.prepared = time.perf_counter()
        self.losses = []

    def begin(self):
        """Everything is imported and nothing is loaded."""
        gc.collect()
        self.base = resident()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        self.prepared = time.perf_counter()

    def step(self, tokens, loss=None):
        """A step has ended, in which so many tokens were taught."""
        self.done += 1
        now, cpu = time.perf_counter(), time.process_time()
        if self.done <= self.warm:
            self.first_s = now - self.prepared
            self.wall, self.cpu = now, cpu
            return
        self.tokens += tokens
        if loss is not None:
            self.losses.append(loss)
        self.ended, self.ended_cpu, self.peak = now, cpu, resident("VmHWM")

    def result(self):
        seconds, cpu = self.ended - self.wall, self.ended_cpu - self.cpu
        return {
            "tokens_per_s": self.tokens / seconds, "tokens_per_cpu_s": self.tokens / cpu, "seconds": seconds,
            "peak_bytes": self.peak - self.base, "base_bytes": self.base, "tokens": self.tokens,
            "until_warm_s": self.first_s, "loss": sum(self.losses) / len(self.losses) if self.losses else None,
        }  # fmt: skip


def rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


# TRL


def trl(asked, clock):
    """TRL's trainer for the task, float32 weights, PEFT's adapter; what else is set is its own way to be faster or leaner."""
    import datasets
    import torch
    import transformers
    import trl

    torch.set_num_threads(asked.threads)
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(asked.folder / f"model-{asked.size}")
    tokenizer.padding_side = "left" if asked.task == "grpo" else "right"
    adapter = None
    if asked.adapter:
        import peft

        adapter = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MATRICES, task_type="CAUSAL_LM", bias="none")
    plain = {
        "output_dir": str(asked.folder / "trl"), "max_steps": asked.warm + asked.steps,
        "per_device_train_batch_size": asked.batch * (asked.group if asked.task == "grpo" else 1),
        "learning_rate": 1e-4, "use_cpu": True, "bf16": False, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "logging_steps": 1_000_000, "seed": asked.seed, "gradient_checkpointing": asked.recompute, "dataloader_pin_memory": False,
    }  # fmt: skip
    if asked.grouped:
        plain["train_sampling_strategy"] = "group_by_length"
    clock.begin()
    model = transformers.AutoModelForCausalLM.from_pretrained(asked.folder / f"model-{asked.size}", dtype=torch.float32)
    trainer = {"sft": _trl_sft, "dpo": _trl_dpo, "grpo": _trl_grpo}[asked.task]
    kind, settings, data, more = trainer(asked, trl)

    class Watched(kind):
        def training_step(self, model, inputs, *args, **kwargs):
            self.latest = super().training_step(model, inputs, *args, **kwargs)
            self.counted = _counted(inputs, asked.task, getattr(self, "_buffered_inputs", None))
            return self.latest

    class Ends(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            clock.step(live.counted, float(live.latest))

    data = datasets.Dataset.from_list(data)
    live = Watched(model=model, args=settings(**plain, **more.pop("settings")), train_dataset=data, processing_class=tokenizer,
                   peft_config=adapter, callbacks=[Ends()], **more)  # fmt: skip
    live.train()
    return {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}


def _counted(inputs, task, buffered):
    """Tokens taught by a batch."""
    if task == "grpo":
        batch = buffered[0] if isinstance(inputs, list) and buffered else inputs
        return int(batch["completion_mask"].sum()) if isinstance(batch, dict) else 0
    mask = inputs.get("attention_mask")
    return int(inputs["input_ids"].numel() if mask is None else mask.sum())


def _trl_sft(asked, trl):
    data = [{"prompt": one["messages"][:-1], "completion": one["messages"][-1:]} for one in rows(asked.folder / "sft.jsonl")]
    more = {"packing": True, "max_length": asked.context} if asked.packing else {}
    more |= {"padding_free": True, "max_length": None} if asked.padding_free else {}  # nothing here is longer than the context
    return trl.SFTTrainer, trl.SFTConfig, data, {"settings": more}


def _trl_dpo(asked, trl):
    return trl.DPOTrainer, trl.DPOConfig, rows(asked.folder / "pairs.jsonl"), {
        "settings": {"precompute_ref_log_probs": asked.precomputed, "beta": 0.1}
    }  # fmt: skip


def _trl_grpo(asked, trl):
    settings = {
        "num_generations": asked.group, "max_completion_length": asked.answer, "temperature": 1.0, "beta": 0.0,
        "loss_type": "dr_grpo", "scale_rewards": "none",
    }  # fmt: skip
    prompts = [{"prompt": one["prompt"]} for one in rows(asked.folder / "prompts.jsonl")]

    def reward(completions, **_):
        return [float(re.search(PATTERN, one[0]["content"]) is not None) for one in completions]

    return trl.GRPOTrainer, trl.GRPOConfig, prompts, {"settings": settings, "reward_funcs": reward}


# Danlu


class Enough(Exception):
    """The steps that were asked for are done; what a run does after them is not timed."""


def danlu(asked, clock):
    """`danlu finetune` and `danlu align` as they are, up to the end of their last step."""
    import torch
    import transformers

    import danlu.engine.model
    import danlu.models.adapters.base
    import danlu.objectives.labelled
    import danlu.stages.align
    import danlu.stages.judging
    import danlu.train.loop
    import danlu.train.preflight
    import danlu.train.samples
    from danlu.models import MODELS
    from danlu.train.watchers.base import Tools, Watcher

    MODELS["llama"]
    torch.set_num_threads(asked.threads)
    train = danlu.train.loop.train

    class Counts(Watcher):
        def after_step(self, run, facts):
            clock.step(facts.tokens, loss=facts.loss)

        def finish(self, run):
            raise Enough

    def counted(run):
        run.watchers = [*run.watchers, Counts(None, Tools())]
        train(run)

    danlu.train.loop.train = counted
    command, form, objective = {
        "sft": (danlu.finetune, "sft", {"name": "sft"}),
        "dpo": (danlu.align, "pairs", {"name": "dpo", "beta": 0.1}),
        "grpo": (danlu.align, "prompts", {"name": "grpo", "share": "constant", "scale": False}),
    }[asked.task]
    answers = {
        "rewards": [{"name": "regex", "pattern": PATTERN}],
        "rollouts": {
            "prompts": asked.batch, "answers": asked.group, "max_tokens": asked.answer, "rows": asked.batch * asked.group,
        },
    }  # fmt: skip
    settings = {
        "out": str(asked.folder / f"danlu-{os.getpid()}"), "objective": objective, "batch": asked.batch, "threads": asked.threads,
        "steps": asked.warm + asked.steps, "optimiser": {"name": "adamw", "learning_rate": 1e-4}, "seed": asked.seed,
        "recompute": asked.recompute, "overwrite": True,
        **({"row_tokens": asked.row_tokens} if asked.row_tokens else {}),
        **({"adapter": {"name": "lora", "rank": RANK, "alpha": ALPHA}} if asked.adapter else {}),
        **(answers if asked.task == "grpo" else {}),
    }  # fmt: skip
    clock.begin()
    with suppress(Enough):
        command(str(asked.folder / f"model-{asked.size}"), str(asked.folder / form), **settings)
    return {"danlu": danlu.__version__, "torch": torch.__version__, "transformers": transformers.__version__}


SIDES = {"trl": trl, "danlu": danlu}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("task", choices=["sft", "dpo", "grpo"])
    parser.add_argument("folder", type=Path, help="what teach_speed.py prepared")
    parser.add_argument("--size", default="10M")
    parser.add_argument("--adapter", action="store_true", help="LoRA in place of all weights")
    parser.add_argument("--batch", type=int, default=8, help="samples of a step; for grpo prompts")
    parser.add_argument("--group", type=int, default=8, help="answers to a prompt")
    parser.add_argument("--answer", type=int, default=64, help="tokens of an answer at most")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--recompute", action="store_true", help="keep only the inputs of layers for the backward pass")
    parser.add_argument("--row-tokens", type=int, help="Danlu: tokens of a row")
    parser.add_argument("--packing", action="store_true", help="TRL: packing=True")
    parser.add_argument("--padding-free", action="store_true", help="TRL: padding_free=True")
    parser.add_argument("--grouped", action="store_true", help="TRL: samples of like length in a step")
    parser.add_argument("--precomputed", action="store_true", help="TRL: the reference's log-probabilities before the first step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    clock = Clock(asked.warm, asked.steps)
    versions = SIDES[asked.side](asked, clock)
    print(json.dumps({**clock.result(), "versions": versions, "pid": os.getpid()}))


if __name__ == "__main__":
    sys.exit(main())
