"""A model folder small enough for every test: random weights, a byte tokenizer, written as the stages write it."""

from pathlib import Path
from typing import Any

import torch

from danlu.core.artifact import Artifact, publish
from danlu.core.settings import Settings

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


class Made(Settings):
    """Stands for the settings of the stage that made the folder."""

    family: str
    seed: int = 0


def tiny_tokenizer(*more: str) -> Any:
    """Bytes with three special tokens and `more`: 259 ids and those."""
    from danlu.tokenizer.trainers import TRAINERS

    return TRAINERS.build(TRAINERS["bytes"].Config()).train(iter(["abc"]), (*SPECIAL, *more))


def write_tiny(folder: Path, family: str = "qwen3", seed: int = 0, **changes: Any) -> None:
    """Files of a model folder, without lineage, as other tools leave them."""
    from danlu.models import MODELS
    from danlu.models.base import MaskedLM
    from danlu.models.weights import save_model

    tokenizer = tiny_tokenizer(*(["<|mask|>"] if issubclass(MODELS[family], MaskedLM) else []))
    ids = {"vocab_size": tokenizer.vocab_size, "bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    model = MODELS[family].tiny(**{**ids, "initializer_range": 0.3, **changes})
    model.initialise(seed)
    if not model.counted:
        with torch.no_grad():
            model.output_weight[: len(SPECIAL)] *= 0.01  # answers that rarely end by themselves
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    save_model(model, folder)


def tiny_model(out: Path, family: str = "qwen3", seed: int = 0, **changes: Any) -> Artifact:
    """A model artefact."""
    with publish(out, kind="model", stage="pretrain", settings=Made(family=family, seed=seed)) as draft:
        write_tiny(draft.path, family, seed, **changes)
        draft.metrics = {"heldout_bits_per_byte": 8.0}
        draft.licences = ["CC0-1.0"]
    assert draft.result is not None
    return draft.result
