"""Tokens per second, time to first token and time per token over HTTP, at 1, 4 and 16 requests at a time, beside other servers.

python benchmarks/serve_load.py --model FOLDER --llama BIN --gguf FOLDER --transformers COMMAND [--weights fp32 int8]
128 tokens in, 64 out, no prompt twice; then 16 requests at once that share a beginning of 1,024 tokens, which one request has
read before. In each round every server is started, loaded and stopped in turn; figures are medians over rounds, ratios are of
the same round. Definitions: danlu/apps/load/figures.py.
"""

import statistics
import sys

import harness
import servers

from danlu.apps.load.run import Level, Load, measure

IN, OUT, SHARED, SHARED_IN, SHARED_OUT, ROWS = 128, 64, 1024, 1056, 32, 16
TARGET = "at 16: tokens/s >= 1.5x, TTFT p99 <= 0.7x; shared prefix >= 1.5x llama.cpp"


def requests_at(level, scale):
    """Enough for a figure, few enough for five rounds."""
    return max(int(scale * max(4, 2 * level if level < ROWS else 1.5 * level)), level)


def loaded(live, levels, seed, scale):
    """Figures of each level on a running server."""
    found = {}
    for level in levels:
        load = Load(live.url, live.side.model, api="completions", requests=requests_at(level, scale), prompt_tokens=IN,
                    max_tokens=OUT, seed=seed, extra=live.side.extra)  # fmt: skip
        found[f"{level} at a time"] = said(measure(load, [Level(concurrency=level)])["runs"][0])
    return found


def shared(live, seed):
    """One request reads the beginning, then sixteen share it."""
    load = Load(live.url, live.side.model, api="completions", requests=ROWS, prompt_tokens=SHARED_IN, shared_prefix=SHARED,
                max_tokens=SHARED_OUT, seed=seed + 500, extra=live.side.extra)  # fmt: skip
    return said(measure(load, [Level(concurrency=ROWS)])["runs"][0])


def said(run):
    """What is kept of a load's report. Raises RuntimeError where answers failed or ended early: that is no comparison."""
    if run["requests"]["success"] == 0 or run["requests"]["error"] or run["requests"]["incomplete"]:
        raise RuntimeError(f"{run['requests']} {run['errors']}")
    return {
        "output_tokens_per_s": run["output_tokens_per_s"], "total_tokens_per_s": run["total_tokens_per_s"],
        "ttft_p50_s": run["ttft_s"]["p50"], "ttft_p99_s": run["ttft_s"]["p99"],
        "tpot_p50_s": run["tpot_s"]["p50"], "tpot_p99_s": run["tpot_s"]["p99"],
        "requests": run["requests"]["success"], "prompt_tokens": run["prompt_tokens"]["p50"],
        "output_tokens": run["output_tokens"]["p50"], "cached_tokens": run["cached_tokens"], "counted_by": run["counted_by"],
    }  # fmt: skip


def sides(asked):
    """Name -> (side, how many rounds it takes part in, whether the shared beginning is measured)."""
    found = {}
    for weights in asked.weights:
        for make in [servers.danlu, *([servers.llama] if asked.llama else [])]:
            side = make(asked, weights, ROWS, 256 * ROWS)
            found[side.name] = (side, asked.repeats, False)
    if asked.transformers and "fp32" in asked.weights:
        for batching in (False, True):
            side = servers.transformers(asked, batching)
            found[side.name] = (side, min(asked.repeats, asked.transformers_repeats), False)
    if asked.shared:
        for make in [servers.danlu, *([servers.llama] if asked.llama else [])]:
            side = make(asked, asked.weights[0], ROWS, 2 * (SHARED_IN + SHARED_OUT) * ROWS)
            found[f"{side.name}, shared beginning"] = (side, min(asked.repeats, asked.shared_repeats), True)
    return {name: found[name] for name in found if not asked.only or any(word in name for word in asked.only)}


def main():
    parser = harness.arguments(__doc__)
    servers.arguments(parser)
    parser.add_argument("--weights", nargs="+", default=["fp32", "int8"], choices=list(servers.GGUF))
    parser.add_argument("--levels", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--transformers_repeats", type=int, default=1, help="rounds of transformers serve, which is slow")
    parser.add_argument("--shared_repeats", type=int, default=3, help="rounds of the shared beginning, which is slow for some")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of requests")
    parser.add_argument("--no-shared", dest="shared", action="store_false")
    parser.add_argument("--only", nargs="*", help="sides whose name holds one of these")
    asked = parser.parse_args()
    rounds = {}
    for turn in range(asked.repeats):
        for name, (side, times, with_prefix) in sides(asked).items():
            if turn >= times:
                continue
            with servers.running(side) as live:
                row = {"shared beginning": shared(live, turn)} if with_prefix else loaded(live, asked.levels, turn, asked.scale)
                row["peak_bytes"] = live.peak_bytes
            rounds.setdefault(name, []).append(row)
            print(turn, name, {key: part if isinstance(part, int) else
                               {word: round(part[word], 3) for word in ("total_tokens_per_s", "ttft_p99_s", "tpot_p50_s")}
                               for key, part in row.items()}, file=sys.stderr, flush=True)  # fmt: skip
    print(harness.save(
        "serve_load", claim="over HTTP: tokens/s, TTFT and TPOT at concurrency 1, 4, 16; a shared beginning", target=TARGET,
        settings={**vars(asked), "tokens_in": IN, "tokens_out": OUT, "shared_tokens": SHARED},
        figures={"sides": {name: summary(rows) for name, rows in rounds.items()}, "ratios": ratios(rounds)},
        versions=servers.versions(asked), notes="llama.cpp's cache is float16 (its default), ours float32 unless --cache says "
        "otherwise; transformers takes one request at a time unless it batches continuously. Guessing ahead is off.",
    ))  # fmt: skip


def summary(rows):
    """Medians over the rounds of one side, with least and most."""
    found = {"rounds": len(rows), "peak_bytes": max(row["peak_bytes"] for row in rows)}
    for key in rows[0]:
        if key != "peak_bytes":
            found[key] = {name: harness.spread([row[key][name] for row in rows]) if isinstance(value, float) else value
                          for name, value in rows[0][key].items()}  # fmt: skip
    return found


def ratios(rounds):
    """Danlu over each other side of equal weights, round by round: tokens/s (more is better), TTFT p99 (less is better)."""
    found = {}
    for ours, other in pairs(rounds):
        for key in rounds[ours][0]:
            if key == "peak_bytes" or key not in rounds[other][0]:
                continue
            both = list(zip(rounds[ours], rounds[other], strict=False))
            found[f"{ours} / {other}, {key}"] = {
                name: statistics.median(mine[key][name] / their[key][name] for mine, their in both)
                for name in ("total_tokens_per_s", "ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s")
            }  # fmt: skip
    return found


def pairs(rounds):
    """Which sides are compared: those that hold weights of the same width."""
    for ours in [name for name in rounds if name.startswith("danlu")]:
        weights, _, rest = ours.removeprefix("danlu ").partition(", ")
        for other in rounds:
            name, _, more = other.partition(", ")
            if (name == f"llama.cpp {servers.GGUF[weights]}" and more == rest) or (
                name == f"transformers {weights}" and not rest
            ):
                yield ours, other


if __name__ == "__main__":
    main()
