"""Adapter folders as PEFT writes them: adapter_config.json beside adapter_model.safetensors. Pickles are not read.

Ours hold one file more, base.json: the id and place of the base, and how it was held in training, which PEFT has no field for.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from danlu.core.errors import DamagedWeights, NotAnArtifact, UnsupportedModel
from danlu.core.files import write_text, writing
from danlu.models.base import MaskedLM, Seq2SeqLM
from danlu.models.heads import Headed

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
PREFIX = "base_model.model."
HARMLESS = frozenset({
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision", "task_type",
})  # fmt: skip
"""Fields of every kind that change nothing of what is computed."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises NotAnArtifact where there is none, UnsupportedModel where it is no JSON object."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError:
        raise NotAnArtifact(f"{folder} holds no adapter: no readable {CONFIG}. Give a folder that `danlu finetune --adapter` or "
                            f"PEFT has saved.") from None  # fmt: skip
    except ValueError as error:
        raise UnsupportedModel(f"{folder / CONFIG} is not JSON ({error}). Copy the adapter again.") from None
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{folder / CONFIG}: expected an object, found {type(found).__name__}.")
    return found


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration, and the tensors in float32 without PEFT's prefix.

    Raises NotAnArtifact, UnsupportedModel or DamagedWeights.
    """
    folder = Path(folder)
    found = read_config(folder)
    return found, read_tensors(folder, prefix(found))


def prefix(found: Mapping[str, Any]) -> str:
    """What stands before the names of tensors: changes of weights wrap the model once more than what stands before a text."""
    return PREFIX if found.get("peft_type") == "LORA" else PREFIX.removesuffix("model.")


def read_tensors(folder: Path, before: str = PREFIX) -> dict[str, Tensor]:
    """The tensors in float32 by their names without PEFT's prefix. Raises NotAnArtifact or DamagedWeights."""
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        why = " Its adapter_model.bin is a pickle, which may run anything; it is not read." if pickled else ""
        raise NotAnArtifact(f"{folder} holds no {WEIGHTS}.{why} Save the adapter with PEFT's save_pretrained.")
    try:
        tensors = load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise DamagedWeights(f"{path} cannot be read ({error}). Copy the adapter again.") from None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise DamagedWeights(f"{path}: {name} holds values that are no numbers. Go back to an earlier checkpoint.")
    if not tensors:
        raise DamagedWeights(f"{path} is empty. Copy the adapter again.")
    return {name.removeprefix(before): tensor.float() for name, tensor in tensors.items()}


def check(folder: Path, found: Mapping[str, Any], read: Collection[str], nothing: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise UnsupportedModel naming every field that asks for something else than what is `read`.

    nothing: values of other fields that ask for nothing, beside null, false and empty ones.
    """
    wrong = [
        f"{field}: {value!r}"
        for field, value in sorted(found.items())
        if field not in HARMLESS and field not in read and value and value not in nothing.get(field, ())
    ]
    if wrong:
        raise refused(folder, wrong)


def refused(folder: Path, wrong: Collection[str]) -> UnsupportedModel:
    """The error about fields of a configuration."""
    return UnsupportedModel("\n  ".join([
        f"{folder}: {CONFIG} asks for what is not computed here:", *wrong,
        "Merge it into its base with PEFT (merge_and_unload), and use the merged model.",
    ]))  # fmt: skip


def check_shape(folder: Path, name: str, tensor: Tensor, wanted: torch.Size | tuple[int, ...]) -> None:
    """Raise UnsupportedModel where a tensor was made for another base."""
    if tensor.shape != torch.Size(wanted):
        raise UnsupportedModel(f"{folder}: {name} is {list(tensor.shape)}, but this model asks for {list(wanted)}. Was the "
                               f"adapter trained on another base?")  # fmt: skip


def task_type(model: Any) -> str:
    """PEFT's word for what a model does."""
    if isinstance(model, Headed):
        task = model.config.head.task
        return {"tag": "TOKEN_CLS", "extract": "QUESTION_ANS", "embed": "FEATURE_EXTRACTION"}.get(task, "SEQ_CLS")
    if isinstance(model, Seq2SeqLM):
        return "SEQ_2_SEQ_LM"
    return "FEATURE_EXTRACTION" if isinstance(model, MaskedLM) else "CAUSAL_LM"


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write both files; tensors are given without PEFT's prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        name if name == "prompt_embeddings" else prefix(config) + name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors.items()
    }
    with writing(folder / WEIGHTS):
        save_file(held, folder / WEIGHTS, metadata={"format": "pt"})
    write_text(folder / CONFIG, json.dumps(dict(config), indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def write_base(folder: Path, facts: Mapping[str, Any]) -> None:
    """What the adapter belongs to."""
    write_text(folder / BASE, json.dumps(dict(facts), indent=1, ensure_ascii=False) + "\n")


def read_base(folder: Path) -> dict[str, Any]:
    """What an adapter of ours belongs to; empty for another tool's. Raises UnsupportedModel where it is no JSON object."""
    path = folder / BASE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModel(f"{path} is not JSON ({error}). Copy the adapter again.") from None
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{path}: expected an object, found {type(found).__name__}.")
    return found


def base_of(folder: Path) -> Path:
    """The base's folder: where base.json or adapter_config.json say, from here or from the adapter's folder.

    Raises NotAnArtifact where it is not there.
    """
    said = list(dict.fromkeys(_said(folder)))
    for one in said:
        for place in (Path(one), folder / one):
            if (place / "config.json").is_file():
                return place
    where = " or ".join(said) or "nowhere: adapter_config.json names no base"
    raise NotAnArtifact(f"{folder} is an adapter, and its base is not there ({where}). Bring the base back, or say where it is: "
                        f"danlu merge {folder} --base FOLDER -o MODEL.")  # fmt: skip


def _said(folder: Path) -> Iterator[str]:
    for found, field in ((read_base(folder), "path"), (read_config(folder), "base_model_name_or_path")):
        if isinstance(found.get(field), str) and found[field]:
            yield found[field]
