"""A Hugging Face model folder: transformers, vLLM and llama.cpp's converter read it without Danlu."""

import copy
import json
from pathlib import Path
from typing import Literal

import torch

from danlu.core import files
from danlu.core.errors import UnsupportedModel
from danlu.core.settings import Named
from danlu.engine.exporters import EXPORTERS
from danlu.engine.model import Model, load
from danlu.models.adapters.base import Adapter
from danlu.models.adapters.peft import is_adapter
from danlu.models.weights import load_model, save_model

_NAME = "generation_config.json"


@EXPORTERS.register
class HuggingFace:
    """config.json, generation_config.json, safetensors, tokenizer files; the chat template where the model has one."""

    class Config(Named):
        name: Literal["hf"] = "hf"
        dtype: Literal["float32", "bfloat16", "float16"] = "float32"
        """Type of the weights on disk; the certificate says what a shorter one costs."""

    def __init__(self, config: Config):
        self.config = config

    def write(self, model: Model, folder: Path) -> None:
        if model.model.config.hf_type.startswith("danlu_"):
            raise UnsupportedModel(
                f"{model.path} is of the family {model.model.config.name!r}, which only Danlu computes. "
                f"Train one that others know, such as --model.name qwen3, to hand it on."
            )
        dtype = getattr(torch, self.config.dtype)
        if is_adapter(model.path):  # opened with its base, and merged where it can be
            adapter: Adapter | None = getattr(model.model, "adapter", None)
            if adapter is not None:
                adapter.merge_into(model.model)
            save_model(copy.deepcopy(model.model).to(dtype), folder)
        else:
            save_model(load_model(model.path, dtype=dtype), folder)
        model.tokenizer.save(folder)
        self._keep_generation_settings(model, folder)

    def read(self, folder: Path) -> Model:
        return load(folder, device="cpu")

    def _keep_generation_settings(self, model: Model, folder: Path) -> None:
        """What the source says about generation, with every token that ends an answer."""
        source, target = model.path / _NAME, folder / _NAME
        said = json.loads(target.read_text(encoding="utf-8"))
        said |= json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {}
        ends = sorted(model.ends)
        if ends:
            said["eos_token_id"] = ends[0] if len(ends) == 1 else ends
        files.write_text(target, json.dumps(said, indent=2) + "\n")
