"""One side of the pre-training comparison: forward, loss, backward, clip, optimiser step; prints one JSON line.

Runs in its own process and interpreter, so that peak memory is its own and peers need not share our environment.
The matmul peak is measured in the same process, before and after, at shapes of this configuration.
"""

import argparse
import json
import math
import os
import resource
import statistics
import sys
import time

SIZES = {
    "0.8M": {"layers": 4, "heads": 4, "width": 128, "vocab": 65, "context": 64, "batch": 12, "gated": 344},
    "10M": {"layers": 6, "heads": 6, "width": 384, "vocab": 65, "context": 256, "batch": 16, "gated": 1024},
    "30M": {"layers": 8, "heads": 8, "width": 512, "vocab": 16384, "context": 512, "batch": 4, "gated": 1408},
}


def nanogpt(size, path):
    """karpathy/nanoGPT from a checkout, with its own optimiser choice made fused."""
    sys.path.insert(0, path)
    from model import GPT, GPTConfig

    model = GPT(GPTConfig(block_size=size["context"], vocab_size=size["vocab"], n_layer=size["layers"], n_head=size["heads"],
                          n_embd=size["width"], dropout=0.0, bias=False))  # fmt: skip
    return model, lambda run, x, y: run(x, y)[1], None


def transformers(size, path):
    """transformers' LlamaForCausalLM."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=size["vocab"], hidden_size=size["width"], intermediate_size=size["gated"], num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], max_position_embeddings=size["context"], tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=0, use_cache=False,
    ))  # fmt: skip
    return model, lambda run, x, y: run(input_ids=x, labels=x).loss, None


def litgpt(size, path):
    """litgpt's GPT in the Llama shape."""
    from litgpt import GPT, Config

    config = Config(
        name="bench", block_size=size["context"], n_layer=size["layers"], n_head=size["heads"], n_embd=size["width"],
        vocab_size=size["vocab"], padded_vocab_size=size["vocab"], intermediate_size=size["gated"], bias=False,
        lm_head_bias=False,
        rotary_percentage=1.0, parallel_residual=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
    )  # fmt: skip
    model = GPT(config)
    model.transformer.wte.weight = model.lm_head.weight
    return model, lambda run, x, y: torch.nn.functional.cross_entropy(run(x).flatten(0, 1), y.flatten()), None


def danlu(size, path):
    """Danlu's llama family with its causal objective, as the training loop calls them."""
    from danlu.models import MODELS
    from danlu.objectives import OBJECTIVES
    from danlu.objectives.base import Batch

    family = MODELS["llama"]
    model = family(family.Config(
        vocab_size=size["vocab"], hidden_size=size["width"], intermediate_size=size["gated"], num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], num_key_value_heads=size["heads"], max_position_embeddings=size["context"],
        tie_word_embeddings=True,
    ))  # fmt: skip
    causal = OBJECTIVES["causal"]
    objective = causal(causal.Config())

    def loss(run, x, y):
        return objective.loss_sum(run, Batch(x, y, None, [])) / y.numel()

    return model, loss, None


SIDES = {"nanogpt": nanogpt, "transformers": transformers, "litgpt": litgpt, "danlu": danlu}


def matmul_peak(size, dtype, seconds=0.4):
    """Best GFLOP/s of the matrix products that this configuration is made of."""
    rows = size["batch"] * size["context"]
    best = 0.0
    for inner, outer in ((size["width"], 4 * size["width"]), (4 * size["width"], size["width"]), (2048, 2048)):
        a, b = torch.randn(max(rows, 512), inner, dtype=dtype), torch.randn(inner, outer, dtype=dtype)
        ended = time.perf_counter() + seconds
        while time.perf_counter() < ended:
            started = time.perf_counter()
            for _ in range(5):
                a @ b
            best = max(best, 5 * 2 * a.shape[0] * inner * outer / (time.perf_counter() - started) / 1e9)
    return best


def flops_per_token(model, size):
    """6 per weight that takes part in a matrix product, plus attention: 12 x layers x width x context."""
    import torch.nn as nn

    seen, weights = set(), 0
    tied = None
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.dim() != 2 or id(weight) in seen:
            continue
        if isinstance(module, nn.Embedding):
            tied = weight if tied is None else tied
            continue
        seen.add(id(weight))
        weights += weight.numel()
    if (
        tied is not None
        and weights
        and not any(tuple(p.shape) == tuple(tied.shape) and id(p) in seen for p in model.parameters())
    ):
        weights += size["vocab"] * size["width"]  # a tied head without a module of its own
    return 6 * weights + 12 * size["layers"] * size["width"] * size["context"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--path", help="checkout of the peer, where it is not a package")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8)
    args = parser.parse_args()
    size = SIZES[args.size]
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    dtype = getattr(torch, args.dtype)
    before = matmul_peak(size, dtype)
    model, loss_of, _ = SIDES[args.side](size, args.path)
    model.train()
    total = sum(p.numel() for p in model.parameters())
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    run = torch.compile(model) if args.compile and args.side != "danlu" else model
    mixed = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16" and args.side != "danlu")
    if args.side == "danlu":
        from danlu.train.parallel import compile_blocks

        model.compute_dtype = torch.bfloat16 if args.dtype == "bfloat16" else None
        if args.compile:
            compile_blocks(model)
    x = torch.randint(size["vocab"], (size["batch"], size["context"]))
    y = torch.randint(size["vocab"], (size["batch"], size["context"]))

    def step():
        with mixed:
            loss = loss_of(run, x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss

    started = time.perf_counter()
    first = step().item()
    first_step_s = time.perf_counter() - started
    assert math.isfinite(first), first
    for _ in range(3):
        step()
    rates, ended = [], time.perf_counter() + args.seconds
    while time.perf_counter() < ended or len(rates) < 5:
        started = time.perf_counter()
        step()
        rates.append(x.numel() / (time.perf_counter() - started))
    peak = max(before, matmul_peak(size, dtype))
    rate, flops = statistics.median(rates), flops_per_token(model, size)
    print(json.dumps({
        "tokens_per_s": rate, "gflops": rate * flops / 1e9, "matmul_peak_gflops": peak, "of_peak": rate * flops / 1e9 / peak,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "parameters": total, "steps": len(rates),
        "first_step_s": first_step_s, "first_loss": first, "torch": torch.__version__, "pid": os.getpid(),
    }))  # fmt: skip


if __name__ == "__main__":
    import torch

    main()
