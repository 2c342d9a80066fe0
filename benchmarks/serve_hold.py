"""Load held on our own server for many minutes: no error that is not the client's, memory flat, the sums of /metrics right.

python benchmarks/serve_hold.py [--minutes 30] [--model FOLDER] [--small]
Five kinds of requests at once, more than the engine has rows for; 5 % of the clients hang up in the middle, 5 % of the bodies are
wrong on purpose. Without --model a small model with random weights is served; --small makes it so small that two minutes on
one core hold some thousand requests.
"""

import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import harness
from generate_speed import write_folder

from danlu.apps.load.figures import figures
from danlu.apps.load.prompts import Prompts
from danlu.apps.load.run import Level, Load, connect, drive

TARGET = "no error, no incomplete answer, memory of the last fifth within 3 % + 16 MB of the second fifth, sums of /metrics equal"
GROWTH, SLACK_BYTES = 0.03, 16_000_000
PATIENCE_S = 120
_SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}, "kind": {"enum": ["tea", "coffee"]}},
           "required": ["sure", "kind"], "additionalProperties": False}  # fmt: skip
_FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": _SCHEMA}}
MIX = {  # changes to a load, and how many clients of the kind there are
    "chat": ({"prompt_tokens": 96, "max_tokens": 48}, 10),
    "long prompts, short answers": ({"prompt_tokens": 400, "max_tokens": 8, "api": "completions"}, 4),
    "a shared beginning": ({"prompt_tokens": 300, "shared_prefix": 240, "max_tokens": 24}, 6),
    "JSON by schema": ({"prompt_tokens": 64, "max_tokens": 64, "extra": {"response_format": _FORMAT}}, 4),
    "two answers in one piece": (
        {"prompt_tokens": 64, "max_tokens": 24, "stream": False, "disconnects": 0.0,
         "extra": {"n": 2, "temperature": 1, "logprobs": True, "top_logprobs": 3}}, 4,
    ),
}  # fmt: skip


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--model", type=Path, help="folder of a model; left out, one with random weights is made")
    parser.add_argument("--small", action="store_true", help="the smallest model, for short trials")
    parser.add_argument("--disconnects", type=float, default=0.05)
    parser.add_argument("--bad_bodies", type=float, default=0.05)
    parser.add_argument("--serve", nargs="*", default=[], help="more words for `danlu serve`")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or made(Path(folder) / "model", "1M" if asked.small else "16M")
        found = hold(model, asked, Path(folder) / "server.log")
    for name, value in found["verdict"].items():
        print(f"{name:38}{'yes' if value else 'NO'}")
    path = harness.save(
        "serve_hold", claim="load held: mixed traffic at saturation with clients that leave and bodies that are wrong",
        target=TARGET, settings={**vars(asked), "mix": MIX}, figures=found,
    )  # fmt: skip
    print(path)
    return 0 if all(found["verdict"].values()) else 1


def made(folder, size):
    """A model with random weights, and a chat template."""
    from danlu.tokenizer.chat import CHATML

    folder.mkdir()
    write_folder(folder, size)
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


def hold(model, asked, log):
    """Serve the model, hold the load, compare both sides' counts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "danlu", "serve", str(model), "--port", str(port), *asked.serve]
    with log.open("w") as lines:
        server = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT)
        try:
            wait_for(url, server, log)
            found = asyncio.run(measure(url, server.pid, asked))
        finally:
            server.terminate()
            code = server.wait(60)
    words = log.read_text(errors="replace")
    found["server"] = {"exit_code": code, "tracebacks": words.count("Traceback"), "last_words": words[-2000:]}
    found["verdict"]["no traceback in the server's log"] = "Traceback" not in words
    return found


def wait_for(url, server, log):
    """Until the server is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass  # not yet
        time.sleep(0.2)
    raise RuntimeError(f"the server was not ready after {PATIENCE_S} s:\n{log.read_text()[-3000:]}")


async def measure(url, pid, asked):
    """The figures of each kind, the memory of the server, and whether its counts are ours."""
    name = await first_model(url)
    whole = Load(url, name, requests=0, duration_s=asked.minutes * 60, disconnects=asked.disconnects,
                 bad_bodies=asked.bad_bodies, timeout_s=300)  # fmt: skip
    client = connect(whole)
    kinds = {}
    for place, (kind, (changes, clients)) in enumerate(MIX.items()):
        load = replace(whole, seed=place, **changes)
        prompts = Prompts(name, load.api, load.max_tokens, load.stream, place, load.extra)
        await prompts.fit(client, load.prompt_tokens, load.shared_prefix)
        kinds[kind] = (prompts, load, Level(concurrency=clients))
    before = counts(await client.get("/metrics"))
    memory = []
    watch = asyncio.create_task(watched(pid, memory, every_s=max(0.2, asked.minutes * 60 / 600)))
    answers = dict(zip(kinds, await asyncio.gather(*(drive(client, *kind) for kind in kinds.values())), strict=True))
    watch.cancel()
    deadline = time.monotonic() + 30
    while counts(await client.get("/metrics"))["running"] and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    after = counts(await client.get("/metrics"))
    await client.close()
    theirs = {key: after[key] - before.get(key, 0) for key in after}
    ours = tallied(answers)
    growth = grown(memory)
    every = [answer for some in answers.values() for answer in some]
    return {
        "kinds": {kind: figures(some) for kind, some in answers.items()}, "together": figures(every),
        "memory_bytes": memory[:: max(1, len(memory) // 100)], "memory": growth, "client_counts": ours, "server_counts": theirs,
        "verdict": {**agreement(ours, theirs), "memory is flat": growth["late"] <= growth["early"] * (1 + GROWTH) + SLACK_BYTES},
    }  # fmt: skip


async def first_model(url):
    """What the server calls its model."""
    import json

    client = connect(Load(url, ""))
    listed = json.loads(await client.get("/v1/models"))
    await client.close()
    return listed["data"][0]["id"]


def tallied(answers):
    """What the clients saw, in the server's terms."""
    found = dict.fromkeys(("success", "left", "refused", "error", "incomplete", "answers", "written", "read"), 0)
    for kind, some in answers.items():
        changes, _ = MIX[kind]
        for one in some:
            found[one.outcome] += 1
            if one.outcome == "success":
                found["answers"] += changes.get("extra", {}).get("n", 1)
                found["written"] += one.output_tokens
                found["read"] += one.prompt_tokens
    return found


def counts(text):
    """Sums over the labels of what /metrics says."""
    found = {"running": 0.0, "refused": 0.0, "failed": 0.0, "success": 0.0, "cancelled": 0.0, "written": 0.0, "read": 0.0,
             "cached": 0.0, "rejected": 0.0, "5xx": 0.0}  # fmt: skip
    names = {
        "num_requests_running": "running", "request_success_total": "success", "request_cancelled_total": "cancelled",
        "request_failed_total": "failed", "admission_rejections_total": "rejected", "generation_tokens_total": "written",
        "prompt_tokens_total": "read", "prefix_cache_hits_total": "cached",
    }  # fmt: skip
    for name, labels, value in re.findall(r"^danlu:(\w+)(?:\{([^}]*)\})?\s+(\S+)$", text.decode(), re.MULTILINE):
        if name in names:
            found[names[name]] += float(value)
        if name == "http_requests_total":
            found["refused"] += float(value) * bool(re.search(r'status="4(?!99)\d\d"', labels))
            found["5xx"] += float(value) * bool(re.search(r'status="5', labels))
    return found


def agreement(ours, theirs):
    """Each claim about both sides' counts. A client that left may have had its whole answer written before anybody knew."""
    ended = theirs["success"] + theirs["cancelled"]
    spare = ours["left"] * max(changes["max_tokens"] for changes, _ in MIX.values())
    return {
        "no error that is not the client's": ours["error"] == ours["incomplete"] == 0,
        "no 5xx, none failed, none rejected": theirs["5xx"] == theirs["failed"] == theirs["rejected"] == 0,
        "every wrong body was refused": ours["refused"] == theirs["refused"],
        "answers and cancelled add up": ended == ours["answers"] + ours["left"],
        "tokens written add up": ours["written"] <= theirs["written"] <= ours["written"] + spare,
        "tokens read add up": theirs["read"] + theirs["cached"] >= ours["read"],
        "nothing is left running": theirs["running"] == 0,
    }


async def watched(pid, memory, every_s):
    """Resident bytes of the server, again and again."""
    while True:
        memory.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        await asyncio.sleep(every_s)


def grown(memory):
    """Memory in the second and the last fifth of the time, and the slope of the line through all but the first fifth."""
    fifth = max(1, len(memory) // 5)
    rest = memory[fifth:]
    places = range(len(rest))
    slope = statistics.linear_regression(places, rest).slope * len(rest) if len(rest) > 1 else 0.0
    return {"early": statistics.median(memory[fifth : 2 * fifth]), "late": statistics.median(memory[-fifth:]),
            "growth_by_line_bytes": slope, "peak": max(memory)}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
