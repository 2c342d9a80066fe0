"""The same model in transformers, built from our Config through the config.json we write."""

import importlib
import json
from pathlib import Path

import torch

from danlu.models import MODELS
from danlu.models.base import LanguageModel

CASES = [
    (path.stem, changes)
    for path in sorted((Path(__file__).parent / "cases").glob("[a-z]*.py"))
    for changes in importlib.import_module(f"tests.models.cases.{path.stem}").CHANGES
]
"""Family and the changes to its tiny Config, from one file a family."""
OWN = {"lstm", "ngram", "rwkv7", "sprint"}
"""Families that transformers does not have: their own tests compare them with other references."""


def cases(kind: type[LanguageModel]) -> list[tuple[str, dict]]:
    """Those of the families of one kind."""
    return [(family, changes) for family, changes in CASES if issubclass(MODELS[family], kind)]


def ours(family: str, changes: dict, seed: int = 1) -> LanguageModel:
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
    plain = {"experts_implementation": "eager"} if cls._can_set_experts_implementation() else {}
    model, info = cls.from_pretrained(folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32, **plain)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


def tokens(rows: int = 2, length: int = 13, vocab: int = 31, seed: int = 7) -> torch.Tensor:
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(seed))


def assert_close(found: torch.Tensor, wanted: torch.Tensor, most: float = 1e-4) -> None:
    """Largest difference below `most` of the largest value; a NaN anywhere fails too."""
    apart = ((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)).item()
    assert apart < most, apart
