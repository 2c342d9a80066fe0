"""Tokens per second of greedy generation against transformers' generate, on the same folder, the same tokens proven.

python benchmarks/generate_speed.py [--sizes 1M 5M 16M] [--threads 1 2]
Batch 1, 16 prompt tokens, 128 new ones; reading the prompt is in the time, and for danlu so is turning ids into text.
"""

import json
import os
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import harness

SIZES = {  # width, layers, heads, key heads, inner width, vocabulary
    "1M": (128, 4, 4, 2, 384, 4096),
    "5M": (256, 6, 4, 2, 704, 4096),
    "16M": (384, 8, 6, 3, 1024, 8192),
}
PROMPT_TOKENS, NEW_TOKENS = 16, 128


def write_folder(folder, size):
    """A qwen3 model with random weights and a tokenizer of its size, learned from the standard library's sources."""
    from danlu.models import MODELS
    from danlu.models.weights import save_model
    from danlu.tokenizer.trainers import TRAINERS

    width, layers, heads, key_heads, inner, vocab = SIZES[size]
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    trainer = TRAINERS.build(TRAINERS["bpe"].Config())
    tokenizer = trainer.train((path.read_text(encoding="utf-8") for path in sources), ["<|endoftext|>"], vocab_size=vocab)
    model = MODELS["qwen3"](MODELS["qwen3"].Config(
        vocab_size=tokenizer.vocab_size, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_heads, head_dim=width // heads, intermediate_size=inner, initializer_range=0.1,
    ))  # fmt: skip
    model.initialise(0)
    tokenizer.save(folder)
    save_model(model, folder)


def worker(folder, threads, repeats):
    """Both sides in turn in one process; prints one line of JSON."""
    import torch
    from transformers import AutoModelForCausalLM

    from danlu.engine.model import load
    from danlu.engine.request import Sampling

    torch.set_num_threads(threads)
    ours = load(folder, device="cpu")
    ours.ends = frozenset()  # always the full length
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    text = "def read_lines(path, encoding='utf-8', limit=None):\n    "
    prompt = ours.encode(text)[:PROMPT_TOKENS]
    text = ours.tokenizer.decode(prompt[1:])
    answers = {}

    def danlu():
        started = time.perf_counter()
        writing = ours.write(text, Sampling(temperature=0, max_tokens=NEW_TOKENS))
        "".join(writing)
        seconds = time.perf_counter() - started
        answers["danlu"] = writing.ids
        return NEW_TOKENS / seconds

    def transformers():
        ids = torch.tensor([ours.encode(text)])
        started = time.perf_counter()
        found = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
                                eos_token_id=None, pad_token_id=0)  # fmt: skip
        seconds = time.perf_counter() - started
        answers["transformers"] = found[0, ids.size(1) :].tolist()
        return NEW_TOKENS / seconds

    def plain():
        ours.fast, kept, ours._prepared = False, ours._prepared, None
        value = danlu()
        ours.fast, ours._prepared = True, kept
        return value

    rates = harness.alternate({"danlu": danlu, "transformers": transformers, "danlu, plain decoder": plain}, repeats)
    same = next((i for i, (a, b) in enumerate(zip(answers["danlu"], answers["transformers"])) if a != b), NEW_TOKENS)
    print(json.dumps({"rates": rates, "same_tokens": same, "parameters": sum(p.numel() for p in ours.model.parameters())}))


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "THREADS"))
    args = parser.parse_args()
    if args.worker:
        worker(Path(args.worker[0]), int(args.worker[1]), args.repeats)
        return
    figures = {}
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), size)
            for threads in args.threads:
                env = {key: str(threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
                words = [sys.executable, __file__, "--worker", folder, str(threads), "--repeats", str(max(args.repeats, 5))]
                found = harness.run(words, env=env).json()
                rates = found.pop("rates")
                row = {name: harness.spread(values) for name, values in rates.items()}
                row |= {f"danlu / {name}": harness.ratio(rates["danlu"], rates[name]) for name in rates if name != "danlu"}
                figures[f"{size}, {threads} threads"] = {**found, "tokens_per_s": row}
                print(size, threads, {name: round(value["median"], 2) for name, value in row.items()}, found, file=sys.stderr)
    from danlu.core.machine import version

    print(harness.save(
        "generate_speed", claim="generate: tokens/s for a model of the quickstart's size", target=">= 3x transformers generate",
        settings={"batch": 1, "prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, "dtype": "float32", "greedy": True,
                  "repeats": max(args.repeats, 5), "cpu_count": os.cpu_count()},
        figures=figures, versions={"transformers": version("transformers")},
    ))  # fmt: skip


if __name__ == "__main__":
    main()
