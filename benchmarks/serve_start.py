"""From the command to the first token of the first answer, and the memory that is resident then, beside other servers.

python benchmarks/serve_start.py --model FOLDER --llama BIN --gguf FOLDER --transformers COMMAND [--weights fp32 int8]
Files are in the page cache for all. Memory: after the first token, and after 16 requests of 128 + 4 tokens at a time. `import
torch` is measured beside, because it is what llama.cpp does not have to pay.
"""

import subprocess
import sys
import time

import harness
import servers

from danlu.apps.load.run import Level, Load, measure

TARGET = "first token <= llama.cpp + import torch; memory <= 1.15x weights + cache"
ROWS, TOKENS = 16, 4096


def started(side, turn):
    """Seconds to readiness and to the first token; memory."""
    with servers.running(side, poll_s=0.01) as live:
        answer = servers.ask(live, "Once upon a time", 1)
        first_s = time.perf_counter() - live.started
        assert answer["choices"]
        found = {"ready_s": live.ready_s, "first_token_s": first_s, "resident_bytes": float(live.resident_bytes)}
        load = Load(live.url, live.side.model, api="completions", requests=ROWS, prompt_tokens=128, max_tokens=4, seed=turn,
                    warmup=0, extra=live.side.extra)  # fmt: skip
        measure(load, [Level(concurrency=ROWS)])
        return found | {"resident_bytes_loaded": float(live.resident_bytes), "peak_bytes": float(live.peak_bytes)}


def import_torch(threads):
    """Seconds of a process that imports torch and ends."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - begun


def main():
    parser = harness.arguments(__doc__)
    servers.arguments(parser)
    parser.add_argument("--weights", nargs="+", default=["fp32", "int8"], choices=list(servers.GGUF))
    asked = parser.parse_args()
    sides = {}
    for weights in asked.weights:
        side = servers.danlu(asked, weights, ROWS, TOKENS, guess="auto")  # as it is started, its measuring included
        sides[side.name] = side
        if asked.llama:
            side = servers.llama(asked, weights, ROWS, TOKENS)
            sides[side.name] = side
    if asked.transformers and "fp32" in asked.weights:
        side = servers.transformers(asked)
        sides[side.name] = side
    rounds, torch_s = {name: [] for name in sides}, []
    for turn in range(asked.repeats + 1):  # the first fills the page cache
        torch_s.append(import_torch(asked.threads))
        for name, side in sides.items():
            found = started(side, turn)
            print(turn, name, {key: round(value, 2) for key, value in found.items()}, file=sys.stderr, flush=True)
            if turn:
                rounds[name].append(found)
    figures = {name: {key: harness.spread([row[key] for row in rows]) for key in rows[0]} for name, rows in rounds.items()}
    compared = {}
    for weights in asked.weights:
        ours, other = rounds[f"danlu {weights}"], rounds.get(f"llama.cpp {servers.GGUF[weights]}")
        if other:
            compared[f"danlu {weights} / (llama.cpp {servers.GGUF[weights]} + import torch), first token"] = harness.ratio(
                [row["first_token_s"] for row in ours],
                [row["first_token_s"] + torch for row, torch in zip(other, torch_s[1:], strict=True)])  # fmt: skip
            for key in ("resident_bytes", "resident_bytes_loaded"):
                compared[f"danlu {weights} / llama.cpp {servers.GGUF[weights]}, {key}"] = harness.ratio(
                    [row[key] for row in ours], [row[key] for row in other])  # fmt: skip
    if any(name.startswith("transformers") for name in rounds):
        theirs = rounds["transformers fp32"]
        for key in ("first_token_s", "resident_bytes"):
            compared[f"danlu fp32 / transformers fp32, {key}"] = harness.ratio(
                [row[key] for row in rounds["danlu fp32"]], [row[key] for row in theirs])  # fmt: skip
    print(harness.save(
        "serve_start", claim="from the command to the first token, and resident memory", target=TARGET, settings=vars(asked),
        figures={"sides": figures, "import_torch_s": harness.spread(torch_s[1:]), "ratios": compared,
                 "weights_bytes": weights_bytes(asked)},
        versions=servers.versions(asked),
        notes="llama.cpp maps its file: the pages it has touched count as resident, and others may share them.",
    ))  # fmt: skip


def weights_bytes(asked):
    """Sizes of the files, to judge memory by."""
    found = {"safetensors": sum(path.stat().st_size for path in asked.model.glob("*.safetensors"))}
    if asked.gguf:
        found |= {path.name: path.stat().st_size for path in sorted(asked.gguf.glob("m-*.gguf"))}
    return found


if __name__ == "__main__":
    main()
