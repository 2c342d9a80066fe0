"""What the server tells of an engine, a run and an artefact, for tests of the page."""

from typing import Any


def engine_record() -> dict[str, Any]:
    return {
        "id": "sage-134m", "kind": "causal", "state": "ready", "context": 2048, "kernel": "native int8 exact",
        "fingerprint": "dl_1", "chat": True, "running": 2, "waiting": 1, "rows": 16, "steps": 9, "preemptions": 0,
        "blocks": {"total": 256, "used": 40, "cached": 100, "free": 116, "tokens": 16},
        "prefix": {"queried_tokens": 5120, "hit_tokens": 4096}, "tokens": {"prompt": 5120, "generated": 800},
        "rates": {"prompt_tokens_per_s": 0.0, "generated_tokens_per_s": 71.2},
        "requests": [{"id": "row 3, choice 0", "state": "running", "doing": "writing", "prompt_tokens": 512, "cached_tokens": 496,
                      "generated_tokens": 17, "choices": 1, "age_s": 0.8, "adapter": None}],
    }  # fmt: skip


def run_record(steps: int = 30) -> dict[str, Any]:
    at = list(range(1, steps + 1))
    return {
        "object": "danlu.run", "name": "first", "state": "running", "updated": 1764000000.0, "step": steps, "steps": 100,
        "tokens": 1000 * steps, "loss": 9 / (1 + steps), "heldout_loss": 3.25, "heldout_bits_per_byte": 1.5,
        "tokens_per_s": 5210.0, "seconds": 2.0 * steps,
        "curve": {"step": at, "tokens": [1000 * n for n in at], "loss": [9 / (1 + n) for n in at], "grad_norm": [1.0 for _ in at],
                  "lr": [1e-3 for _ in at], "tokens_per_s": [5000.0 for _ in at], "seconds": [2.0 * n for n in at]},
        "heldout": {"step": [10, 20], "tokens": [10_000, 20_000], "loss": [4.5, 3.25], "bits_per_byte": [2.0, 1.5]},
        "samples": [{"step": 10, "time": 1764000000.0, "prompt": "Once", "text": " there was"}], "guard": [], "checkpoints": [],
        "notes": [{"time": 1764000000.0, "kind": "say", "text": "the plan: a small one"}],
        "plan": {"reasons": ["narrow is fast"], "steps": 100}, "settings": {"seed": 0}, "ledger": None, "metrics": None,
    }  # fmt: skip


def artefact_record() -> dict[str, Any]:
    return {
        "object": "danlu.artefact", "model": "sage-134m", "name": "sage", "id": "0123456789abcdef", "kind": "model",
        "stage": "pretrain", "created": "2026-11-29T21:00:00+00:00", "licences": ["CC0-1.0"], "sources": ["poems"],
        "metrics": {"heldout_loss": 3.21}, "ledger": {"poems": {"documents": 12, "tokens": 3456}}, "settings": {"seed": 0},
        "wall_s": 180.0,
        "files": [{"file": "model.safetensors", "bytes": 536_000_000}, {"file": "config.json", "bytes": 900}],
        "card": "---\nlibrary_name: danlu\n---\n\n# sage\n\nA **small** model.\n\n| what | value |\n|---|---|\n| loss | 3.21 |\n",
        "tree": [
            ancestor(0, None, "0123456789abcdef", "sage", "model", "pretrain"),
            ancestor(1, "data", "fedc", "poems", "dataset", "prepare"),
            ancestor(2, "raw", "sha256:00ff", "poems.txt", None, None, size=2048),
            ancestor(1, "tokenizer", "aaaa", "tok", "tokenizer", "tokenizer"),
        ],
    }  # fmt: skip


def ancestor(depth: int, role: str | None, number: str, name: str, kind: str | None, stage: str | None, size: int | None = None):
    return {
        "depth": depth, "role": role, "id": number, "name": name, "kind": kind, "stage": stage, "created": None, "bytes": size,
        "files": None,
    }  # fmt: skip
