"""Training step and prefill of every family on the shelf against transformers' own implementation of it, at about 10M weights.

python benchmarks/family_speed.py [--families llama mamba] [--threads 1 2] [--repeats 9] [--again]

Both sides read one folder, so config and weights are the same, and their logits are compared before anything is timed; then
they take turns in one process. A training step is forward, loss and backward without an optimiser; prefill reads a prompt into
a new memory (causal), a text (masked), or a source and the first token (encoder-decoder). transformers: eager mode, sdpa
attention where it has it. A family's figures are kept as soon as they are there, so an interrupted run goes on.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import harness

WEIGHTS, VOCAB, TOKENS, ROWS, LAYERS = 10_000_000, 4096, 512, 4, 6
ASKED = 0.15
"""Share of the tokens that a masked model is asked for."""


def families():
    """Families that transformers has too, by name."""
    import transformers

    from danlu.models import MODELS

    return [name for name in MODELS.names() if hasattr(transformers, getattr(MODELS[name].Config, "hf_class", ""))]


def write_folder(folder, name):
    """A new model of about 10M weights, in the family's own proportions."""
    import torch

    from danlu.models import MODELS
    from danlu.models.weights import save_model
    from danlu.train.budget import heads, inner_width

    family = MODELS[name]

    def settings(width):
        sizes = {"width": width, "inner": inner_width(width), "layers": LAYERS, "heads": heads(width), "context": TOKENS}
        return family.Config(**family.Config.sized(**sizes), vocab_size=VOCAB, initializer_range=0.05)

    def weights(width):
        with torch.device("meta"):
            return sum(part.numel() for part in family(settings(width)).parameters())

    width = min(range(64, 769, 64), key=lambda width: abs(weights(width) - WEIGHTS))
    save_model(family(settings(width)), folder)
    return {"weights": weights(width), "width": width}


def worker(folder, name, threads, repeats):
    """Both sides in turn in one process; prints one line of JSON."""
    import torch

    torch.set_num_threads(threads)
    ours, theirs = open_both(folder, name)
    sides = {"danlu": danlu(ours), "transformers": transformers_side(ours, theirs)}
    figures = {"logits_differ_by": agreement(ours, theirs)}
    for what in ("train", "prefill"):
        seconds = harness.alternate({side: timed(parts[what]) for side, parts in sides.items()}, repeats, warmup=2)
        figures[what] = {
            **{f"{side}_s": harness.spread(values) for side, values in seconds.items()},
            "transformers / danlu": harness.ratio(seconds["transformers"], seconds["danlu"]),
        }
    print(json.dumps(figures))


def open_both(folder, name):
    """The same folder here and there, in training mode."""
    import torch
    import transformers

    from danlu.models import MODELS
    from danlu.models.weights import load_model

    cls = getattr(transformers, MODELS[name].Config.hf_class)
    try:
        theirs = cls.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)
    except ValueError:  # a family without attention, or without that kernel
        theirs = cls.from_pretrained(folder, dtype=torch.float32)
    for part in theirs.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return load_model(folder).train(), theirs.train()


def kind(model):
    """CausalLM, MaskedLM or Seq2SeqLM."""
    from danlu.models.base import CausalLM, MaskedLM, Seq2SeqLM

    return next(one.__name__ for one in (CausalLM, MaskedLM, Seq2SeqLM) if isinstance(model, one))


def texts(rows, seed):
    """Random ids (rows, TOKENS), away from special ones."""
    import torch

    return torch.randint(8, VOCAB, (rows, TOKENS), generator=torch.Generator().manual_seed(seed))


def asked(ids):
    """The targets of a masked model: a share of the tokens themselves."""
    import torch

    chosen = torch.rand(ids.shape, generator=torch.Generator().manual_seed(5)) < ASKED
    return ids.masked_fill(~chosen, -100)


def danlu(model):
    """Our training step and prefill."""
    import torch

    ids, source, one = texts(ROWS, 1), texts(ROWS, 2), texts(1, 3)
    after = torch.cat([ids[:, 1:], torch.full((ROWS, 1), -100)], dim=1)

    def hidden(which, read):
        return model.hidden(read) if which != "Seq2SeqLM" else model.hidden(read, source_BSD=model.encode(source))

    def train():
        model.zero_grad(set_to_none=True)
        targets = asked(ids) if kind(model) == "MaskedLM" else after
        model.cross_entropy_sum(hidden(kind(model), ids).flatten(0, 1), targets.flatten()).div(targets.numel()).backward()

    @torch.inference_mode()
    def prefill():
        if kind(model) == "MaskedLM":
            return model(one)
        state = model.new_state(1, TOKENS)
        if kind(model) == "Seq2SeqLM":
            return model.logits(model.hidden(one[:, :1], source_BSD=model.encode(one), state=state))
        return model.logits(model.hidden(one, state=state)[:, -1:])

    return {"train": train, "prefill": prefill}


def transformers_side(mine, model):
    """The same asked of transformers; its losses shift the labels themselves where ours were shifted."""
    import torch

    ids, source, one = texts(ROWS, 1), texts(ROWS, 2), texts(1, 3)
    which = kind(mine)

    def train():
        model.zero_grad(set_to_none=True)
        if which == "Seq2SeqLM":
            labels = torch.cat([ids[:, 1:], torch.full((ROWS, 1), -100)], dim=1)
            model(input_ids=source, decoder_input_ids=ids, labels=labels).loss.backward()
        else:
            model(ids, labels=asked(ids) if which == "MaskedLM" else ids).loss.backward()

    @torch.inference_mode()
    def prefill():
        if which == "MaskedLM":
            return model(one).logits
        if which == "Seq2SeqLM":
            return model(input_ids=one, decoder_input_ids=one[:, :1], use_cache=True).logits
        return model(one, use_cache=True, logits_to_keep=1).logits

    return {"train": train, "prefill": prefill}


def agreement(ours, theirs):
    """Largest difference of the prefill's logits over the largest logit: proof that both compute the same."""
    found, wanted = danlu(ours.eval())["prefill"](), transformers_side(ours, theirs.eval())["prefill"]()
    ours.train(), theirs.train()
    return float((found - wanted).abs().max() / wanted.abs().max())


def timed(act):
    """Seconds of one call."""

    def side():
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    return side


def known(settings):
    """Figures of earlier runs with the same settings."""
    path = harness.RESULTS / "family_speed.json"
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    return record["figures"] if record["settings"] == settings else {}


def main():
    parser = harness.arguments(__doc__)
    parser.add_argument("--families", nargs="+", choices=families(), default=families())
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--again", action="store_true", help="measure also what an earlier run has measured")
    parser.add_argument("--worker", nargs=3, metavar=("FOLDER", "FAMILY", "THREADS"))
    args = parser.parse_args()
    if args.worker:
        folder, name, threads = args.worker
        worker(Path(folder), name, int(threads), args.repeats)
        return
    from danlu.core.machine import version

    settings = {"vocabulary": VOCAB, "row_tokens": TOKENS, "training_rows": ROWS, "prefill_rows": 1, "layers": LAYERS,
                "dtype": "float32", "repeats": args.repeats, "cpu_count": os.cpu_count()}  # fmt: skip
    figures = known(settings)
    for name in args.families:
        with tempfile.TemporaryDirectory() as folder:
            made = write_folder(Path(folder), name)
            for threads in args.threads:
                key = f"{name}, {threads} threads"
                if key in figures and not args.again:
                    continue
                env = {which: str(threads) for which in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
                words = [sys.executable, __file__, "--worker", folder, name, str(threads), "--repeats", str(args.repeats)]
                figures[key] = {**made, **harness.run(words, env=env).json()}
                ratios = {what: round(figures[key][what]["transformers / danlu"]["median"], 2) for what in ("train", "prefill")}
                print(key, ratios, f"logits differ by {figures[key]['logits_differ_by']:.1e}", file=sys.stderr, flush=True)
                harness.save(
                    "family_speed", claim="training step and prefill of each family at 10M against transformers",
                    target=">= 1.3x for attention families, >= 3x for recurrent ones against the pure PyTorch path",
                    settings=settings, figures=figures,
                    versions={"torch": version("torch"), "transformers": version("transformers")},
                )  # fmt: skip


if __name__ == "__main__":
    main()
