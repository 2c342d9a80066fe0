"""One side of the decoding comparison: reading 512 tokens and writing 128, one answer at a time; prints one JSON line.

Runs in its own process and interpreter. Loading is not in the figures; every side first warms up on the same work, shorter.
"""

import argparse
import json
import queue
import resource
import statistics
import time


def danlu(folder, weights, asked):
    """Our engine, chance and events included."""
    from danlu.engine.events import EndEvent, FaultEvent, TokenEvent
    from danlu.engine.job import Job
    from danlu.engine.model import load
    from danlu.engine.opening import Serving, open_engine
    from danlu.engine.request import Sampling

    model = load(folder, device="cpu")
    settings = Serving(weights=weights, rows=1, cache_tokens=1024, batch_tokens=512, guess="off")
    engine = open_engine(model, settings).start()

    def answer(ids, room):
        came = queue.SimpleQueue()
        begun = time.perf_counter()
        engine.submit(Job(tuple(ids), Sampling(temperature=0, ignore_eos=True), room),
                      lambda event: came.put((time.perf_counter(), event)))  # fmt: skip
        times = []
        while True:
            at, event = came.get()
            if isinstance(event, TokenEvent):
                times.append(at)
            elif isinstance(event, FaultEvent):
                raise RuntimeError(event.message)
            elif isinstance(event, EndEvent):
                return begun, times

    def read(seed):
        begun, times = answer(prompt(asked.read, seed), 1)
        return asked.read / (times[0] - begun)

    def write():
        _, times = answer([1], asked.write + 1)
        return asked.write / (times[-1] - times[0])

    answer(prompt(64, 0), 16)
    rates = {"read": statistics.median(read(seed) for seed in range(1, 4)), "write": write()}
    found = {"kernel": engine.runner.kernel}
    engine.close()
    return rates, found


def transformers(folder, weights, asked):
    """transformers' generate, float32: reading is a call for one token, writing the difference to one for many."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(asked.threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    def seconds(ids, room):
        given = torch.tensor([ids])
        begun = time.perf_counter()
        with torch.inference_mode():
            found = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=room, min_new_tokens=room,
                                   do_sample=False, pad_token_id=0)  # fmt: skip
        assert found.size(1) == len(ids) + room
        return time.perf_counter() - begun

    seconds(prompt(64, 0), 16)
    read_s = statistics.median(seconds(prompt(asked.read, seed), 1) for seed in range(1, 4))
    write_s = seconds([1], asked.write + 1) - min(seconds([1], 1) for _ in range(2))
    return {"read": asked.read / read_s, "write": asked.write / write_s}, {"kernel": f"torch {torch.__version__}, float32"}


def bandwidth(threads):
    """Bytes a second that this machine reads from memory: the best of a sum and of a matrix with a vector, over 512 MB."""
    import torch

    torch.set_num_threads(threads)
    matrix, vector = torch.ones(32768, 4096), torch.ones(4096)
    best = 0.0
    for work in (lambda: matrix.sum(), lambda: matrix @ vector):
        for _ in range(6):
            begun = time.perf_counter()
            work()
            best = max(best, matrix.nbytes / (time.perf_counter() - begun))
    return best


def prompt(tokens, seed):
    """Ids that no other seed gives."""
    import random

    dice = random.Random(seed)
    return [1, *(dice.randrange(3, 32000) for _ in range(tokens - 1))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["danlu", "transformers", "bandwidth"])
    parser.add_argument("--folder")
    parser.add_argument("--weights", default="fp32")
    parser.add_argument("--read", type=int, default=512)
    parser.add_argument("--write", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    if asked.side == "bandwidth":
        print(json.dumps({"bytes_per_s": bandwidth(asked.threads)}))
        return
    rates, more = {"danlu": danlu, "transformers": transformers}[asked.side](asked.folder, asked.weights, asked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**rates, **more, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
