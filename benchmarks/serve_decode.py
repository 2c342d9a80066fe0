"""Tokens per second read and written, one answer at a time, beside transformers' generate and llama.cpp, and the share of memory.

python benchmarks/serve_decode.py --model FOLDER --llama BIN --gguf FOLDER --transformers COMMAND
Writing 128 tokens from an empty context, reading 512. In each round every side runs once in a process of its own, in turn, on the
same threads; ratios are of the same round. The engine's figures hold its choice of tokens and its events, llama-bench's neither.
How much of the memory bandwidth is reached: bytes of weights that each token must read, times tokens a second, over what the
machine reads at best, measured in every round.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import harness
import servers

READ, WRITE = 512, 128
SIDE = Path(__file__).parent / "sides" / "decode.py"
TARGET = "write >= 1.5x transformers fp32, >= 1.0x llama.cpp at equal bits; read >= 1.2x llama.cpp"


def side(python, kind, asked, *words):
    """One run of sides/decode.py."""
    command = [str(python), str(SIDE), kind, "--threads", str(asked.threads), "--read", str(READ), "--write", str(WRITE)]
    return harness.run([*command, *words], env={**servers.threads_of(asked.threads), "HF_HUB_OFFLINE": "1"}).json()


def llama_bench(asked, weights):
    """llama-bench's pp512 and tg128, one repetition after its own warm-up."""
    form = servers.GGUF[weights]
    command = [asked.llama / "llama-bench", "-m", asked.gguf / f"m-{form}.gguf", "-t", str(asked.threads), "-p", str(READ),
               "-n", str(WRITE), "-r", "1", "-o", "json"]  # fmt: skip
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    rates = {"read" if row["n_prompt"] else "write": row["avg_ts"] for row in rows}
    return {**rates, "kernel": f"llama.cpp {form}", "model_bytes": rows[0]["model_size"]}


def sides(asked):
    """Name -> what runs it once."""
    found = {}
    for weights in asked.weights:
        found[f"danlu {weights}"] = lambda weights=weights: side(
            sys.executable, "danlu", asked, "--folder", str(asked.model), "--weights", weights
        )
        if asked.llama:
            found[f"llama.cpp {servers.GGUF[weights]}"] = lambda weights=weights: llama_bench(asked, weights)
    if asked.transformers:
        python = asked.transformers.parent / "python"
        found["transformers fp32"] = lambda: side(python, "transformers", asked, "--folder", str(asked.model))
    return {name: found[name] for name in found if not asked.only or any(word in name for word in asked.only)}


def bytes_per_token(asked, name, row):
    """Weights that one token must read: all matrices but the table of embeddings, of which it takes one row."""
    import torch

    from danlu.models.weights import family_of, read_config

    config = read_config(asked.model)
    table = config["vocab_size"] * config["hidden_size"]
    if name.startswith("llama.cpp"):
        bits = {"f32": 32, "f16": 16, "q8_0": 8.5, "q4_0": 4.5}[name.split()[1]]
        return row["model_bytes"] - table * bits / 8
    family = family_of(config, asked.model)
    with torch.device("meta"):
        layers = sum(part.numel() for part in family(family.from_hf(config)).parameters()) - 2 * table
    bits, head = {"fp32": (32, 32), "bf16": (16, 16), "int8": (8.125, 8.125), "int4": (4.5, 8.125)}[name.split()[1]]
    return (layers * bits + table * head) / 8


def main():
    parser = harness.arguments(__doc__)
    servers.arguments(parser)
    parser.add_argument("--weights", nargs="+", default=["fp32", "bf16", "int8", "int4"], choices=list(servers.GGUF))
    parser.add_argument("--only", nargs="*", help="sides whose name holds one of these")
    asked = parser.parse_args()
    rounds, bandwidth = {name: [] for name in sides(asked)}, []
    for turn in range(asked.repeats):
        bandwidth.append(side(sys.executable, "bandwidth", asked)["bytes_per_s"])
        for name, run in sides(asked).items():
            rounds[name].append(run())
            told = {key: round(rounds[name][-1][key], 1) for key in ("read", "write")}
            print(turn, name, told, f"bandwidth {bandwidth[-1] / 1e9:.1f} GB/s", file=sys.stderr, flush=True)
    figures = {}
    for name, rows in rounds.items():
        need = bytes_per_token(asked, name, rows[0])
        share = [row["write"] * need / best for row, best in zip(rows, bandwidth, strict=True)]
        figures[name] = {
            "read_tokens_per_s": harness.spread([row["read"] for row in rows]),
            "write_tokens_per_s": harness.spread([row["write"] for row in rows]),
            "bytes_per_token": need,
            "share_of_bandwidth": statistics.median(share),
            "kernel": rows[0]["kernel"],
        } | ({"peak_bytes": max(row["peak_bytes"] for row in rows)} if "peak_bytes" in rows[0] else {})  # fmt: skip
    print(harness.save(
        "serve_decode", claim="one answer at a time: tokens/s written (batch 1) and read (512)", target=TARGET,
        settings={**vars(asked), "read": READ, "write": WRITE, "cpu_count": os.cpu_count()},
        figures={"sides": figures, "bandwidth_bytes_per_s": harness.spread(bandwidth), "ratios": ratios(rounds)},
        versions=servers.versions(asked), notes="bf16 beside llama.cpp's f16; int8 (8.125 bits a weight) beside q8_0 (8.5); int4 "
        "(4.5 bits, output matrix 8.125) beside q4_0 (4.5, output matrix q6_K). Guessing ahead is off.",
    ))  # fmt: skip


def ratios(rounds):
    """Danlu over others at equal bits, and every form of ours over transformers' float32."""
    found = {}
    for ours in [name for name in rounds if name.startswith("danlu")]:
        weights = ours.split()[1]
        for other in (f"llama.cpp {servers.GGUF[weights]}", "transformers fp32"):
            if other in rounds:
                for what in ("read", "write"):
                    found[f"{ours} / {other}, {what}"] = harness.ratio(
                        [row[what] for row in rounds[ours]], [row[what] for row in rounds[other]]
                    )
    return found


if __name__ == "__main__":
    main()
