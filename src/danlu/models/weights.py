"""Model folders as Hugging Face lays them out: config.json beside safetensors, whole or in shards.

Everything is checked before a weight is used, and everything wrong is named at once. Weights are read straight into
the model's own memory, so that loading needs little more than the model itself. Pickles are not read.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from danlu.core.errors import DamagedWeights, NotAnArtifact, TokenizerMismatch, UnknownName, UnsupportedModel
from danlu.core.files import write_text, writing
from danlu.models import MODELS, packed
from danlu.models.base import LanguageModel
from danlu.models.config import ModelConfig
from danlu.nn.quant import Quantised

_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip
_WHOLE = {"I64": torch.int64}
"""Types of tables that number things; they keep their type whatever the model's."""
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_SHARD_BYTES = 5_000_000_000
_BUFFERED = 1 << 22  # values converted at a time


def load_model(
    folder: Path, dtype: torch.dtype = torch.float32, dress: Callable[[LanguageModel], Any] | None = None,
    config: ModelConfig | None = None, placed: Callable[[Any, str], None] | None = None,
) -> Any:  # fmt: skip
    """The model in a folder, in `dtype`, ready to use and on the processor.

    dress: what else the folder holds, built around the empty model (a head in place of the words, heads.py).
    config: settings in place of the folder's own, of the same family and with the same shapes.
    placed: what is done with the model once a tensor, by its name here, has its values (adapters/held.py: holding).

    Raises NotAnArtifact (no config.json), UnsupportedModel (something no family here computes), DamagedWeights (every
    missing, superfluous, misshapen or cut tensor in one list), TokenizerMismatch (the tokenizer beside it knows more tokens).
    """
    folder = Path(folder)
    found = packed.without(read_config(folder), folder)
    family = family_of(found, folder)
    config = config or family.from_hf(found)
    _check_tokenizer(folder, config.vocab_size)
    files = _weight_files(folder)
    raw = _entries(folder, files)
    on_disk = packed.joined(raw, folder)
    with torch.device("meta"):
        model: Any = family(family.told(config, on_disk))
        model = dress(model) if dress else model
    _check_index(folder, raw)
    places = _match(folder, model, on_disk)
    filled: dict[str, str] = {}
    sick = []
    for name, (here, part) in places.items():
        now = _held(model, here)
        tensor = _read(on_disk[name], name, dtype if isinstance(now, nn.Parameter) else now.dtype)
        if not tensor.isfinite().all():
            sick.append(f"{name}: {int((~tensor.isfinite()).sum()):,} of {tensor.numel():,} values")
        if f"{here} {part}" in filled and not torch.equal(_held(model, here)[part], tensor):
            raise DamagedWeights(f"{folder}: {name} differs from {filled[f'{here} {part}']}, but config.json ties the two.")
        _place(model, here, part, tensor)
        if placed and part is ...:
            placed(model, here)
        filled[f"{here} {part}"] = here
    if sick:
        raise DamagedWeights("\n  ".join([
            f"{folder}: {len(sick)} tensor(s) hold values that are no numbers in {str(dtype).removeprefix('torch.')}:", *sick,
            "The run that wrote them exploded, or their range is beyond this type. Go back to an earlier checkpoint.",
        ]))  # fmt: skip
    return model.eval()


def save_model(model: Any, folder: Path, shard_bytes: int = _SHARD_BYTES) -> None:
    """Write config.json, generation_config.json and the weights in their own dtype, as transformers would."""
    tensors = tensors_on_disk(model)
    dtype = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
    save_tensors(tensors, {**model.config.to_hf(), "dtype": str(dtype).removeprefix("torch.")}, folder, shard_bytes)


def tensors_on_disk(model: Any) -> dict[str, Tensor]:
    """The weights by their names on disk, on the processor. Raises ValueError for a model with an adapter that is not merged."""
    if getattr(model, "adapter", None) is not None:
        raise ValueError("an adapter lies on the model: merge it, or save it by itself (models/adapters/base.py)")
    here = {own: tensor.detach().cpu() for own, tensor in model.state_dict().items()}
    return {name: tensor[part].contiguous() for own, tensor in here.items() for name, part in model.pieces(own).items()}


def read_packed(folder: Path) -> dict[str, Quantised]:
    """The matrices of a folder that are kept as small integers, by their names on disk; empty where there are none."""
    on_disk = packed.joined(_entries(folder, _weight_files(folder)), folder)
    return {name: packed.read(entry, name) for name, entry in on_disk.items() if entry["dtype"] == packed.DTYPE}


def save_tensors(tensors: dict[str, Tensor], config: dict[str, Any], folder: Path, shard_bytes: int = _SHARD_BYTES) -> None:
    """Write config.json, generation_config.json and tensors by their names on disk."""
    folder = Path(folder)
    special = {key: config[key] for key in _SPECIAL if config.get(key) is not None}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"_from_model_config": True, **special})
    shards = list(_shards(tensors, shard_bytes))
    if len(shards) == 1:
        _save(shards[0], folder / _ONE)
        return
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        _save(shard, folder / name)
    total = sum(tensor.nbytes for tensor in tensors.values())
    where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    _write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder. Raises NotAnArtifact where there is none, UnsupportedModel where it is no JSON object."""
    path = Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        adapter = (Path(folder) / "adapter_config.json").is_file()
        advice = f"It is an adapter: danlu merge {folder} -o MODEL makes a model of it and its base." if adapter else (
            "Give a folder made by `danlu pretrain`."
        )  # fmt: skip
        raise NotAnArtifact(f"{folder} holds no model: no readable config.json. {advice}") from None
    except ValueError as error:
        raise UnsupportedModel(f"{path} is not JSON ({error}). Copy the model again.") from None
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{path}: expected an object, found {type(found).__name__}.")
    return found


def family_of(found: dict[str, Any], folder: Path) -> type[LanguageModel]:
    """The family that computes a config.json; `danlu_x` is our own family x."""
    hf_type = str(found.get("model_type"))
    try:
        family: type[LanguageModel] = MODELS[hf_type.removeprefix("danlu_")]
    except UnknownName as unknown:
        raise UnsupportedModel(f"{folder}: model_type {hf_type!r}: {unknown}") from None
    if family.Config.hf_type != hf_type:
        raise UnsupportedModel(f"{folder}: model_type {hf_type!r} is written {family.Config.hf_type!r} here.")
    return family


def _check_tokenizer(folder: Path, vocab_size: int) -> None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        vocab = found["model"].get("vocab", {})
        size = max([len(vocab), *(token["id"] + 1 for token in found.get("added_tokens") or [])])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenizerMismatch(f"{path} cannot be read ({error!r}). Copy the tokenizer saved with the model.") from None
    if size > vocab_size:
        raise TokenizerMismatch(
            f"{folder}: the model embeds {vocab_size} tokens but tokenizer.json defines {size}. "
            f"Use the tokenizer that was saved with the model."
        )


def _weight_files(folder: Path) -> list[Path]:
    if (folder / _ONE).is_file():
        return [folder / _ONE]
    if not (folder / _INDEX).is_file():
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        also = f" ({', '.join(pickles)} may run code when opened and is not read)" if pickles else ""
        raise DamagedWeights(f"{folder}: no {_ONE} and no {_INDEX}{also}. Copy the model again, weights included.")
    try:
        names = sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise DamagedWeights(f"{folder / _INDEX} cannot be read ({error!r}). Copy the model again.") from None
    outside = [name for name in names if Path(name).name != name]
    lost = [name for name in names if name not in outside and not (folder / name).is_file()]
    if outside or lost:
        raise DamagedWeights(f"{folder}: {_INDEX} names files that are not there: {', '.join(outside + lost)}. Copy them too.")
    return [folder / name for name in names]


def _entries(folder: Path, files: list[Path]) -> dict[str, dict[str, Any]]:
    """Where each tensor lies: {name: path, dtype, shape, start, bytes}; the library has checked offsets against sizes."""
    entries: dict[str, dict[str, Any]] = {}
    wrong = []
    for path in files:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            wrong.append(f"{path.name} ({path.stat().st_size:,} bytes): {error}")
            continue
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                place = {"path": path, "start": 8 + length + start, "bytes": end - start}
                entries[name] = {**place, "dtype": entry["dtype"], "shape": entry["shape"]}
    if wrong:
        raise DamagedWeights("\n  ".join([f"{folder}: weights cut short or damaged; copy them again:", *wrong]))
    return entries


def _check_index(folder: Path, on_disk: dict[str, dict[str, Any]]) -> None:
    """Raise DamagedWeights where the index of a model in shards does not say what the shards hold."""
    if (folder / _ONE).is_file():
        return
    said = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
    held = {name: entry["path"].name for name, entry in on_disk.items()}
    wrong = [
        f"{name}: said to be in {said[name]}, found {held.get(name, 'nowhere')}" for name in said if held.get(name) != said[name]
    ]
    wrong += [f"{name}: in {held[name]}, not in the index" for name in held if name not in said]
    if wrong:
        raise DamagedWeights("\n  ".join([f"{folder}: {_INDEX} does not fit the shards; copy the model again:", *wrong]))


def _match(folder: Path, model: Any, on_disk: dict[str, dict[str, Any]]) -> dict[str, tuple[str, Any]]:
    """Name on disk -> name in the model and which part of it. Raises DamagedWeights listing all that does not fit."""
    held = model.state_dict()
    pieces = {own: model.pieces(own) for own in held}
    parts = {name: (own, part) for own in held for name, part in pieces[own].items()}
    names = {name: model.name_here(name) for name in on_disk}
    places = {name: parts.get(here, (here, ...)) for name, here in names.items() if here is not None}
    whole = {own for own, part in places.values() if part is ...}
    filled = {here for here in names.values() if here is not None}
    wrong = [f"{name}: missing" for own in held if own not in whole for name in pieces[own] if name not in filled]
    for name, (own, part) in places.items():
        entry = on_disk[name]
        if own not in held:
            wrong.append(f"{name}: superfluous, {entry['shape']}")
        elif entry["shape"] != (wanted := list(held[own][part].shape)):
            wrong.append(f"{name}: shape {entry['shape']}, but config.json asks for {wanted}")
        elif entry["dtype"] == packed.DTYPE and held[own].is_floating_point():
            continue
        elif entry["dtype"] not in (known := _DTYPES if held[own].is_floating_point() else _WHOLE):
            wrong.append(f"{name}: type {entry['dtype']}, known: {', '.join(known)}")
    if wrong:
        raise DamagedWeights("\n  ".join([f"{folder}: {len(wrong)} tensor(s) do not fit config.json:", *wrong]))
    return places


def _read(entry: dict[str, Any], name: str, dtype: torch.dtype) -> Tensor:
    """A tensor in its final type; where that is another than on disk, through a small buffer."""
    if entry["dtype"] == packed.DTYPE:
        return packed.values(entry, name, dtype)
    stored = {**_DTYPES, **_WHOLE}[entry["dtype"]]
    tensor = torch.empty(entry["shape"], dtype=dtype if stored.is_floating_point else stored)
    flat = tensor.view(-1)
    with open(entry["path"], "rb") as file:
        file.seek(entry["start"])
        if stored == tensor.dtype:
            file.readinto(memoryview(flat.view(torch.uint8).numpy()))
            return tensor
        for start in range(0, flat.numel(), _BUFFERED):
            piece = torch.empty(min(_BUFFERED, flat.numel() - start), dtype=stored)
            file.readinto(memoryview(piece.view(torch.uint8).numpy()))
            flat[start : start + len(piece)] = piece
    return tensor


def _held(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of that name."""
    parent, _, leaf = name.rpartition(".")
    found: Tensor = getattr(model.get_submodule(parent), leaf)
    return found


def _place(model: nn.Module, name: str, part: Any, tensor: Tensor) -> None:
    """Put a tensor, or the part of one, where it belongs; what is a buffer stays one."""
    parent, _, leaf = name.rpartition(".")
    now = _held(model, name)
    if part is not ... and not now.is_meta:
        now.data[part] = tensor
        return
    if part is not ...:
        full = torch.empty(now.shape, dtype=tensor.dtype)
        full[part] = tensor
        tensor = full
    setattr(model.get_submodule(parent), leaf, nn.Parameter(tensor) if isinstance(now, nn.Parameter) else tensor)


def _shards(tensors: dict[str, Tensor], most_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    held = 0
    for name, tensor in tensors.items():
        if shard and held + tensor.nbytes > most_bytes:
            yield shard
            shard, held = {}, 0
        shard[name] = tensor
        held += tensor.nbytes
    yield shard


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with writing(path):
        try:
            save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(*_system_error(error)) from error


def _system_error(error: SafetensorError) -> tuple[int, str]:
    """The library wraps the system's error in text such as `I/O error: No space left on device (os error 28)`."""
    found = re.search(r"os error (\d+)", str(error))
    return (int(found.group(1)), str(error)) if found else (5, str(error))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
