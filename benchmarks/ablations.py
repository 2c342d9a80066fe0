"""The speed preset's blocks one at a time, at equal processor time: which of them earn their place on a CPU.

Base: the Qwen3 shape. Each line adds one block of the sprint family to it; the last lines are the whole preset, and the
preset without the block. Bits per byte of held-out text, several seeds, appended cell by cell to the result file, so that an
interrupted run goes on. Usage: ablations.py --text FILE [--cpu_s 20 --seeds 3]
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

PLAIN = {
    "mlp": "swiglu",
    "qk_norm": True,
    "value_embeddings": False,
    "zero_init": False,
    "residual_scalars": False,
    "softcap": None,
}
SIZE = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 256}
BLOCKS = {
    "base": {},
    "without qk_norm": {"qk_norm": False},
    "relu2": {"mlp": "relu2", "intermediate_size": 384},
    "value_embeddings": {"value_embeddings": True},
    "zero_init": {"zero_init": True},
    "residual_scalars": {"residual_scalars": True},
    "softcap 15": {"softcap": 15.0},
    "softcap 30": {"softcap": 30.0},
    "bigrams 4096": {"bigram_rows": 4096},
    "bigrams 16384": {"bigram_rows": 16384},
    "untied": {"tie_word_embeddings": False},
    "whole preset": {"mlp": "relu2", "intermediate_size": 384, "value_embeddings": True, "zero_init": True,
                     "residual_scalars": True, "softcap": 15.0},
    "winners": {"mlp": "relu2", "intermediate_size": 384, "value_embeddings": True, "bigram_rows": 16384,
                "tie_word_embeddings": False},
}  # fmt: skip


def main(options):
    import torch
    from benchmarks.harness import RESULTS, save
    from benchmarks.small_run import Setting, at_equal_cost, tokens

    torch.set_num_threads(1)
    path = RESULTS / f"{options.name}.json"
    cells = json.loads(path.read_text())["figures"]["cells"] if path.is_file() else {}
    data = tokens(options.text, options.vocab_size)
    for seed in range(options.seeds):
        for name, changes in BLOCKS.items():
            key = f"{name}, seed {seed}"
            if key in cells or (options.only and name not in options.only):
                continue
            setting = Setting(model={"name": "sprint", **SIZE, **PLAIN, **changes}, seed=seed, rows=options.rows, optimiser={
                "name": "muon", "table_rate": 0.012, "vector_rate": 0.012, "momentum": 0.9})  # fmt: skip
            cells[key] = at_equal_cost(data, setting, options.cpu_s)
            print(key, cells[key], file=sys.stderr, flush=True)
            save(
                options.name,
                claim=__doc__.splitlines()[0],
                target="a block stays when its mean gain exceeds the spread of seeds",
                settings={"size": SIZE, "blocks": BLOCKS, **vars(options), "text": options.text.name},
                figures={"summary": summary(cells), "cells": cells},
                command=f"ablations.py --name {options.name} --text TEXT --vocab_size {options.vocab_size} "
                f"--cpu_s {options.cpu_s:g} --seeds {options.seeds}" + (f" --only {options.only}" if options.only else ""),
            )
    for name, line in summary(cells).items():
        print(f"{name:20}", line)


def summary(cells):
    """Per block: mean bits per byte, gain over the base at the same seeds, and the gains' standard error."""
    found = {}
    for name in BLOCKS:
        here = {key.rpartition(" ")[2]: cell["bits_per_byte"] for key, cell in cells.items() if key.startswith(f"{name}, seed")}
        gains = [
            cells[f"base, seed {seed}"]["bits_per_byte"] - value for seed, value in here.items() if f"base, seed {seed}" in cells
        ]
        if here:
            error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
            found[name] = {"bits_per_byte": statistics.mean(here.values()), "gain": statistics.mean(gains) if gains else None,
                           "gain_standard_error": error, "seeds": len(here)}  # fmt: skip
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--vocab_size", type=int, default=1024)
    parser.add_argument("--cpu_s", type=float, default=20.0, help="processor seconds of training a cell")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", default="ablations", help="result file")
    parser.add_argument("--only", nargs="*", help="blocks to run")
    main(parser.parse_args())
