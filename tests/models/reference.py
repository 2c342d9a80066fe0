"""The same model in transformers, built from our Config through the config.json we write."""

import json
from pathlib import Path

import torch

from danlu.models import MODELS
from danlu.models.base import CausalLM

FAMILIES = {"qwen3": "Qwen3", "llama": "Llama", "gpt2": "GPT2"}

ODD = {
    "qwen3": [
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False, "attention_bias": True, "rope_theta": 500.0},
        {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 14, "intermediate_size": 34},
        {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 22, "num_hidden_layers": 3, "rms_norm_eps": 1e-3},
    ],
    "llama": [
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
        {"tie_word_embeddings": False, "mlp_bias": True, "num_hidden_layers": 3},
        {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 28, "intermediate_size": 10},
        {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": None, "hidden_size": 36, "rms_norm_eps": 1e-2},
    ],
    "gpt2": [
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False, "n_inner": 58, "n_layer": 3},
        {"n_embd": 35, "n_head": 5, "n_inner": None, "layer_norm_epsilon": 1e-2},
    ],
}
CASES = [(family, changes) for family, all_changes in ODD.items() for changes in all_changes]


def ours(family: str, changes: dict, seed: int = 1) -> CausalLM:
    """A tiny model of ours whose every parameter, norms and biases too, is far from its first value."""
    model = MODELS[family].tiny(**changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def theirs(family: str, folder: Path):
    """Load a folder with transformers and insist that it found each weight it wants and wanted each it found."""
    import transformers

    cls = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    model, info = cls.from_pretrained(folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


def tokens(rows: int = 2, length: int = 13, vocab: int = 31) -> torch.Tensor:
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(7))
