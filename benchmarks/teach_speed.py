"""Tokens a second and peak memory of teaching: SFT (all weights, LoRA), DPO, GRPO, beside TRL and PEFT at equal shape and data.

python benchmarks/teach_speed.py --data FOLDER [--repeats 5] [--cases SFT ...] [--sizes 10M 30M]
Each case takes four to eight minutes of an idle machine; what one call measures stays when another measures other cases.
FOLDER holds instruct_en_small, instruct_demo and preference, as tests/shared_data.py knows them. Needs the extra `test`.
"""

import datetime
import json
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import harness

WORKER = Path(__file__).parent / "sides" / "teach.py"
CONTEXT = 512
"""Most tokens of a sample; longer ones are left out for all sides, so that nobody cuts any."""
KEYS = ("tokens_per_s", "tokens_per_cpu_s", "peak_bytes")
_THIN = 3
"""One sample in so many is taken: enough for the steps, and preparing them takes less of the time."""
SIZES = {
    "10M": {
        "vocab_size": 8192, "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 8, "num_attention_heads": 6,
    },
    "30M": {
        "vocab_size": 16384, "hidden_size": 448, "intermediate_size": 1216, "num_hidden_layers": 10, "num_attention_heads": 7,
    },
}  # fmt: skip

CASES = {
    "SFT": {
        "danlu": ["danlu", "sft"],
        "trl": ["trl", "sft"],
        "trl, padding_free": ["trl", "sft", "--padding-free"],
    },
    "SFT, recomputing": {
        "danlu": ["danlu", "sft", "--recompute"],
        "trl": ["trl", "sft", "--recompute"],
    },
    "LoRA": {
        "danlu": ["danlu", "sft", "--adapter"],
        "trl": ["trl", "sft", "--adapter"],
        "trl, padding_free": ["trl", "sft", "--adapter", "--padding-free"],
    },
    "DPO": {
        "danlu": ["danlu", "dpo"],
        "trl": ["trl", "dpo"],
        "trl, precomputed": ["trl", "dpo", "--precomputed"],
    },
    "GRPO": {
        "danlu": ["danlu", "grpo", "--batch", "4"],
        "trl": ["trl", "grpo", "--batch", "4"],
    },
    "SFT, other ways of TRL": {
        "danlu": ["danlu", "sft"],
        "trl, grouped by length": ["trl", "sft", "--grouped"],
        "trl, packing": ["trl", "sft", "--packing"],
    },
}  # fmt: skip
"""Danlu comes first; every case holds its settings equal. TRL's own default is to recompute (gradient_checkpointing)."""
USUAL = [case for case in CASES if not case.endswith("TRL")]


def prepare(data, folder, sizes):
    """Models with random weights, conversations, pairs and prompts: the same files for all sides."""
    import danlu
    from danlu.models import MODELS
    from danlu.models.weights import save_model
    from danlu.tokenizer.chat import CHATML, encode_chat
    from danlu.tokenizer.trainers import TRAINERS
    from danlu.tokenizer.turns import with_template

    talks, pairs = _conversations(data), _pairs(data)
    said = [*talks, *(part for pair in pairs for part in pair.values())]
    text = [one["content"] for talk in said for one in talk]
    tokenizer = None  # that of the smallest vocabulary, in which samples are longest
    for size in sizes:
        shape = SIZES[size]
        trained = TRAINERS.build(TRAINERS["bpe"].Config()).train(text, vocab_size=shape["vocab_size"], shrink=True)
        trained = with_template(trained, CHATML)
        family = MODELS["llama"]
        model = family(family.Config(**{**shape, "vocab_size": trained.vocab_size}, max_position_embeddings=CONTEXT), 0)
        (folder / f"model-{size}").mkdir(parents=True)
        save_model(model, folder / f"model-{size}")
        trained.save(folder / f"model-{size}")
        tokenizer = tokenizer or trained

    def fits(messages):
        return len(encode_chat(tokenizer, CHATML, messages)) < CONTEXT

    talks = [talk for talk in talks[::_THIN] if fits(talk)]
    pairs = [pair for pair in pairs[::_THIN] if all(fits(pair["prompt"] + pair[side]) for side in ("chosen", "rejected"))]
    prompts = [talk[:1] for talk in talks if len(talk[0]["content"]) < 200]
    for name, kind, lines in (
        ("sft", "messages", [{"messages": talk} for talk in talks]),
        ("pairs", "preference", pairs),
        ("prompts", "verifiable", [{"prompt": prompt, "answer": "0"} for prompt in prompts]),
    ):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
        danlu.prepare(str(path), out=str(folder / name), form={"name": kind}, holdout=0)
    lengths = sorted(len(encode_chat(tokenizer, CHATML, talk)) for talk in talks)
    return {f"p{share}": lengths[int(share / 100 * (len(lengths) - 1))] for share in (10, 50, 90, 99)} | {
        "conversations": len(talks), "pairs": len(pairs), "prompts": len(prompts)
    }  # fmt: skip


def _conversations(data):
    """Short English instructions, longer ones, Chinese ones: the spread of lengths that people train on."""
    found = []
    for name in ("instruct_en_small/instruction-data", "instruct_demo/alpaca_en_demo", "instruct_demo/alpaca_zh_demo"):
        for one in json.loads((data / f"{name}.json").read_text(encoding="utf-8")):
            asked = "\n\n".join(filter(None, (one["instruction"], one["input"])))
            found.append([_said("user", asked), _said("assistant", one["output"])])
    return [talk for talk in found if all(one["content"].strip() for one in talk)]


def _pairs(data):
    found = []
    for one in json.loads((data / "preference/instruction-data-with-preference.json").read_text(encoding="utf-8")):
        asked = "\n\n".join(filter(None, (one["instruction"], one["input"])))
        found.append((asked, one["chosen"], one["rejected"]))
    for name in ("dpo_en_demo", "dpo_zh_demo"):
        for one in json.loads((data / f"preference/{name}.json").read_text(encoding="utf-8")):
            if len(one["conversations"]) == 1:
                found.append((one["conversations"][0]["value"], one["chosen"]["value"], one["rejected"]["value"]))
    return [
        {"prompt": [_said("user", asked)], "chosen": [_said("assistant", good)], "rejected": [_said("assistant", bad)]}
        for asked, good, bad in found if asked.strip() and good.strip() and bad.strip() and good != bad
    ]  # fmt: skip


def _said(role, content):
    return {"role": role, "content": content}


def measure(asked, folder):
    """Case -> side -> what each round found; the sides of a case run in turn."""
    found = {}
    for size in asked.sizes:
        for case in asked.cases:
            label = f"{case}, {size}"
            found[label] = {side: [] for side in CASES[case] if not asked.only or side in asked.only}
            for round_ in range(asked.repeats):
                for side in found[label]:
                    first, task, *more = CASES[case][side]
                    steps = [
                        "--warm",
                        "2",
                        "--steps",
                        str(asked.steps // 2 if task == "grpo" else asked.steps),
                        "--seed",
                        str(round_),
                    ]
                    words = [sys.executable, str(WORKER), first, task, str(folder), "--size", size, *steps, *more]
                    env = {"OMP_NUM_THREADS": str(asked.threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
                    one = harness.run([*words, "--threads", str(asked.threads)], env=env).json()
                    found[label][side].append(one)
                    print(f"{label} {round_ + 1} {side}: {one['tokens_per_s']:,.0f} tokens/s, {one['peak_bytes'] / 1e6:,.0f} MB",
                          file=sys.stderr, flush=True)  # fmt: skip
    return found


def summary(sides):
    """Spread of each figure by side, and Danlu's ratio to each other side, round by round."""
    found = {side: {key: harness.spread([one[key] for one in rounds]) for key in KEYS} for side, rounds in sides.items()}
    for side, rounds in sides.items():
        if side != "danlu" and "danlu" in sides:
            for key in KEYS:
                ours = [one[key] for one in sides["danlu"]]
                found[f"danlu / {side}, {key}"] = harness.ratio(ours, [one[key] for one in rounds])
    return found


def keep(asked, runs, facts):
    """Write what was measured; cases that this call was not asked for keep their figures, with their own date and settings."""
    before = harness.RESULTS / "teach_speed.json"
    figures = json.loads(before.read_text(encoding="utf-8"))["figures"] if before.is_file() else {}
    today, load = datetime.date.today().isoformat(), round(os.getloadavg()[0], 1)
    measured = {"date": today, "steps": asked.steps, "repeats": asked.repeats, "load": load}
    figures |= {case: {"measured": measured, **summary(sides)} for case, sides in runs.items()}
    versions = next((rounds[0]["versions"] for sides in runs.values() for side, rounds in sides.items() if side != "danlu"), {})
    return harness.save(
        "teach_speed",
        claim="tokens/s and peak memory of teaching (SFT, LoRA, DPO, GRPO) at equal shape, data and batch, float32, beside TRL",
        target=">= 1.5x tokens/s and <= 0.7x memory",
        settings={
            "batch": "8 samples a step; GRPO: 4 prompts, 8 answers of 64 tokens each", "lora": "rank 8 on all seven matrices",
            "optimiser": "AdamW", "threads": asked.threads, "tokens": facts, "rounds": asked.repeats,
        },
        figures=figures,
        versions={**versions, "peft": metadata.version("peft")},
        notes="Tokens are those of the samples, without padding; of GRPO those of the answers. Memory is the peak in training "
        "less what was resident once everything was imported. TRL is without gradient_checkpointing, its default, but where it "
        "says recomputing; its generation is transformers', as it ships.",
    )  # fmt: skip


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data sets")
    parser.add_argument("--sizes", nargs="+", default=["10M"], choices=SIZES)
    parser.add_argument("--cases", nargs="+", default=USUAL, choices=CASES)
    parser.add_argument("--only", nargs="+", help="labels of the sides to run")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round; half as many roll-outs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the inputs, used again when it is there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch) / "inputs"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            (folder / "facts.json").write_text(json.dumps(prepare(asked.data, folder, list(SIZES))), encoding="utf-8")
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        runs = measure(asked, folder)
    print(keep(asked, runs, facts))


if __name__ == "__main__":
    main()
