"""Pre-training tokens per second and peak memory at equal shape and dtype, two threads, three sizes.

python benchmarks/pretrain_throughput.py --nanogpt PATH [--peer-python PYTHON] [--sizes 0.8M 10M 30M]
PYTHON is an interpreter with torch, transformers and litgpt; PATH a checkout of karpathy/nanoGPT.
"""

import datetime
import json
import sys
from pathlib import Path

import harness

WORKER = Path(__file__).parent / "sides" / "train_step.py"


def sides(args):
    """Label -> command, danlu first; every peer eager, nanoGPT also compiled."""
    peer = args.peer_python
    found = {
        "danlu": [sys.executable, WORKER, "danlu"],
        "danlu compiled": [sys.executable, WORKER, "danlu", "--compile"],
        "transformers llama": [peer, WORKER, "transformers"],
        "litgpt": [peer, WORKER, "litgpt"],
    }
    if args.nanogpt:
        found |= {
            "nanogpt": [peer, WORKER, "nanogpt", "--path", args.nanogpt],
            "nanogpt compiled": [peer, WORKER, "nanogpt", "--path", args.nanogpt, "--compile"],
        }
    return {label: command for label, command in found.items() if not args.only or label in args.only}


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--nanogpt", help="checkout of karpathy/nanoGPT")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--sizes", nargs="+", default=["0.8M", "10M", "30M"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", nargs="+", help="labels of the sides to run")
    args = parser.parse_args()
    figures = {}
    for size in args.sizes:
        runs = {label: [] for label in sides(args)}
        for repeat in range(args.repeats):
            for label, command in sides(args).items():
                words = [*map(str, command), size, "--dtype", args.dtype, "--seconds", str(args.seconds)]
                found = harness.run(words).json()
                runs[label].append(found)
                words = (
                    f"{found['tokens_per_s']:.0f} tokens/s, {found['of_peak']:.2f} of peak, {found['peak_bytes'] / 1e6:.0f} MB"
                )
                print(f"{size} {repeat + 1} {label}: {words}", file=sys.stderr, flush=True)
        today = datetime.date.today().isoformat()
        figures[size] = {"measured": {"date": today, "seconds": args.seconds, "repeats": args.repeats}, **summary(runs)}
        print(keep(args, figures))  # after every size: a long run that is cut short has not measured in vain


def keep(args, figures):
    """Write what has been measured so far; sizes that this call was not asked for keep their figures, with their own date."""
    name = "pretrain_throughput" + ("" if args.dtype == "float32" else f"_{args.dtype}")
    before = harness.RESULTS / f"{name}.json"
    kept = json.loads(before.read_text()) if before.is_file() else {"figures": {}}
    figures = {size: found for size, found in kept["figures"].items() if size not in figures} | figures
    return harness.save(
        name,
        claim="pre-training tokens/s and peak memory at equal shape and dtype, 2 threads",
        target="0.8M: >= 1.5x best eager peer, >= 1.1x compiled nanoGPT; 10M, 30M: >= 0.9 of the matmul peak; "
        "memory <= 0.6x transformers'",
        settings={
            "dtype": args.dtype,
            "threads": 2,
            "optimiser": "AdamW, fused",
        },
        figures=figures,
        command=f"pretrain_throughput.py --nanogpt CHECKOUT --dtype {args.dtype}",
    )


def summary(runs):
    """Per side: spread of each figure; ratios of danlu's best form against each peer, run by run."""
    found = {}
    for label, rows in runs.items():
        keys = ("tokens_per_s", "of_peak", "matmul_peak_gflops", "peak_bytes", "first_step_s")
        found[label] = {key: harness.spread([row[key] for row in rows]) for key in keys} | {"parameters": rows[0]["parameters"]}
    for ours in ("danlu", "danlu compiled"):
        for label in runs:
            if ours in runs and not label.startswith("danlu"):
                for key in ("tokens_per_s", "peak_bytes"):
                    mine, other = ([row[key] for row in runs[side]] for side in (ours, label))
                    found[f"{ours} / {label}, {key}"] = harness.ratio(mine, other)
    return found


if __name__ == "__main__":
    main()
