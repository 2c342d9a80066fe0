"""What choosing tokens costs beside computing them: the chooser and its plain twin, and the masks of forms.

python benchmarks/choosing.py [--tokenizer FOLDER] [--rows 16] [--vocabulary 50257] [--repeats 15]
Milliseconds of one step for all rows, in processor time of one thread: what other programs take is left out. Logits are drawn
from a Gumbel distribution of scale 2.5, so that the likeliest of 50,257 tokens has about a third of the mass. Masks are those
of a walk at random through a schema, with the tokenizer of the folder.
"""

import time

import harness
import numpy as np

from danlu.engine.choose import Ask, choose
from danlu.engine.draw import pick
from danlu.engine.request import Sampling
from danlu.engine.samplers import Seen

SETTINGS = {
    "greedy": {"temperature": 0}, "temperature 0.8": {}, "top_k 40": {"top_k": 40}, "top_p 0.95": {"top_p": 0.95},
    "top_k 50, top_p 0.95": {"top_k": 50, "top_p": 0.95}, "min_p 0.05": {"min_p": 0.05}, "typical_p 0.9": {"typical_p": 0.9},
    "three penalties": {"repetition_penalty": 1.1, "frequency_penalty": 0.3, "presence_penalty": 0.1},
}  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 130},
                   "born": {"type": "string", "format": "date"}, "tags": {"type": "array", "items": {"enum": ["a", "bc"]}}},
    "required": ["name", "age", "born", "tags"], "additionalProperties": False,
}  # fmt: skip


def milliseconds(call):
    """Processor time of this thread for one call."""
    started = time.thread_time()
    call()
    return (time.thread_time() - started) * 1e3


def choosing(rows, vocabulary, repeats):
    """Each setting: the chooser, and the samplers one after another."""
    random = np.random.default_rng(0)
    logits = random.gumbel(0, 2.5, (rows, vocabulary)).astype(np.float32)
    ids, figures = random.integers(0, vocabulary, 1000), {}
    for name, settings in SETTINGS.items():
        sampling = Sampling(**settings)
        asks = [Ask(sampling, row, 3, ids, 900, frozenset({0})) for row in range(rows)]
        chain = sampling.chain({0})
        sides = {
            "choose": lambda asks=asks: milliseconds(lambda: choose(logits, asks)),
            "plain": lambda chain=chain: milliseconds(
                lambda: [pick(row, Seen(ids, 900), chain, seed, 3) for seed, row in enumerate(logits)]
            ),
        }
        found = harness.alternate(sides, repeats)
        figures[name] = {side: harness.spread(values) for side, values in found.items()}
    for count in (0, 20):
        asks = [Ask(Sampling(temperature=0), row, 3, ids, 900, logprobs=count) for row in range(rows)]
        (found,) = harness.alternate({"": lambda asks=asks: milliseconds(lambda: choose(logits, asks))}, repeats).values()
        figures[f"greedy, {count} log-probabilities beside"] = {"choose": harness.spread(found)}
    return figures


def masks(folder, repeats):
    """Microseconds of a mask, and of taking in a token."""
    from danlu.engine.constrain.compile import compile
    from danlu.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.open(folder)
    ends = {tokenizer.eos_id}
    first = time.perf_counter()
    compile("json_schema", SCHEMA, tokenizer, ends)
    first, random, took = time.perf_counter() - first, np.random.default_rng(0), []
    for _ in range(repeats):
        held = compile("json_schema", SCHEMA, tokenizer, ends)
        for _ in range(200):
            started = time.thread_time()
            allowed = held.mask()
            between = time.thread_time()
            token = int(random.choice(np.flatnonzero(allowed)))
            taken = time.thread_time()
            complete = held.accept(token)
            took.append((between - started + time.thread_time() - taken) * 1e6)
            if complete:
                break
    at = np.percentile(took, [50, 99, 100]).tolist()
    return {"tokens": tokenizer.vocab_size, "first_compile_s": first, "steps": len(took),
            "microseconds": dict(zip(("median", "p99", "max"), at, strict=True))}  # fmt: skip


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--tokenizer", help="a folder with tokenizer.json, for the masks")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=50_257)
    options = parser.parse_args()
    figures = {"milliseconds a step": choosing(options.rows, options.vocabulary, options.repeats)}
    if options.tokenizer:
        figures["masks"] = masks(options.tokenizer, options.repeats)
    path = harness.save(
        "choosing", claim="choosing tokens costs little beside computing them",
        target="a few milliseconds a step for 16 rows; a mask well under a millisecond",
        settings=vars(options), figures=figures, versions={"numpy": np.__version__},
    )  # fmt: skip
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
