"""What every adapter offers: laid on a model, trained alone, written as PEFT writes it, merged or taken off.

An adapted model is the same module with one child more, `adapter`, which holds everything that learns; the base does not, but
for modules that are asked for whole and for the new head of a task. Names of layers are those on disk.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.core.errors import BadSettings, UnsupportedModel, nearest
from danlu.core.settings import Named
from danlu.models.adapters import ADAPTERS, peft
from danlu.models.adapters.held import hold_small, widen
from danlu.models.adapters.names import matching, names_here, names_on_disk
from danlu.models.adapters.rows import NewRows
from danlu.models.base import CausalLM, LanguageModel
from danlu.models.heads import Headed
from danlu.nn.quant import Quantised
from danlu.nn.small_frozen import SmallFrozen

Adapted = LanguageModel | Headed
"""What an adapter can be laid on."""


class AdapterConfig(Named):
    """What every kind of adapter may be told."""

    base: Literal["float", "int8", "int4"] = "float"
    """How the frozen matrices of the blocks are held: as they are, or in 8 or 4 bits for a quarter or an eighth of it."""
    group: int = Field(64, ge=2, multiple_of=2)
    """Weights that share a scale where the base is held in 4 bits."""
    whole: list[str] = Field([])
    """Modules that learn in full beside the adapter, by the ends of their names: embed_tokens, lm_head, norm."""


class Adapter(nn.Module, ABC):
    """One kind of adapter on one model; made by `attach`."""

    Config: ClassVar[type[AdapterConfig]]
    peft_type: ClassVar[str]
    """What PEFT calls the kind."""
    merges: ClassVar[bool] = True
    """Whether it is a change of weights."""

    def __init__(self, config: Any, model: Adapted):
        super().__init__()
        self.config, self.in_full = config, whole_modules(config.whole, model)
        self.rows: NewRows | None = None
        self._first: dict[str, Tensor] = {}

    @abstractmethod
    def lay_on(self, model: Adapted) -> None:
        """Let the model compute with it."""

    @abstractmethod
    def take_off(self, model: Adapted) -> None:
        """Let the model compute without it."""

    def merge_into(self, model: Adapted) -> None:
        """Change the model's own weights so that it computes without the adapter what it computed with it."""
        raise UnsupportedModel(f"a {self.config.name} adapter is no change of weights, so it cannot be merged. Use the adapter's "
                               f"folder as it is: danlu generate, chat and serve open it with its base.")  # fmt: skip

    @abstractmethod
    def to_peft(self, model: Adapted) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Fields of adapter_config.json and tensors, as PEFT names both."""

    @classmethod
    @abstractmethod
    def from_peft(cls, folder: Path, found: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Adapted) -> AdapterConfig:
        """The settings that a folder means. Raises UnsupportedModel naming what is not computed here, DamagedWeights."""

    @abstractmethod
    def fill(self, tensors: Mapping[str, Tensor], model: Adapted) -> set[str]:
        """Take the values of a folder's tensors; the names of those that were used."""


# ---- what a stage calls


def attach(model: Adapted, config: AdapterConfig, seed: int = 0, codes: Mapping[str, Quantised] | None = None,
           new_rows: Sequence[int] = ()) -> Adapter:  # fmt: skip
    """Freeze the model and lay a new adapter on it, which answers as the model does until it has learned (a prompt but for that).

    codes: matrices that the base's folder holds in few bits already (models/weights.py: read_packed).
    new_rows: ids of new tokens, whose rows of the embedding, and of the head, learn too.
    Raises BadSettings for names that fit nothing, UnsupportedModel for a family that takes no such adapter.
    """
    if is_adapted(model):
        raise ValueError("the model has an adapter: merge or detach it first")
    held = body(model)
    if config.base != "float":
        hold_small(held, config.base, config.group, codes)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(isinstance(model, Headed) and name.startswith("head."))
    adapter: Adapter = ADAPTERS.build(config, model, seed)
    if new_rows:
        adapter.rows = NewRows(held, new_rows)
    for name in adapter.in_full:
        for own, parameter in model.get_submodule(name).named_parameters():
            parameter.requires_grad_(True)
            adapter._first[f"{name}.{own}"] = parameter.detach().clone()
    adapter.to(model.device)
    adapter.train(model.training)
    model.adapter = adapter  # type: ignore[assignment]
    _on(model, adapter)
    return adapter


def is_adapted(model: nn.Module) -> bool:
    """Whether an adapter lies on the model."""
    return getattr(model, "adapter", None) is not None


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """What learns, by name."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The values of what learns: what a checkpoint needs, the base being read again from its folder."""
    return {name: parameter.detach() for name, parameter in trainable(model)}


@contextmanager
def disabled(model: Adapted) -> Iterator[None]:
    """Within the block the model computes as its base does; without an adapter it does so anyway."""
    adapter: Adapter | None = getattr(model, "adapter", None)
    if adapter is None:
        yield
        return
    learned = {name: model.get_parameter(name).data for name in adapter._first}
    _off(model, adapter)
    try:
        for name, first in adapter._first.items():
            model.get_parameter(name).data = first
        yield
    finally:
        for name, now in learned.items():
            model.get_parameter(name).data = now
        _on(model, adapter)


def detach(model: Adapted) -> None:
    """Take the adapter off for good; what it changed in full goes back."""
    adapter = adapter_of(model)
    _off(model, adapter)
    for name, first in adapter._first.items():
        model.get_parameter(name).data = first
    del model.adapter


def twin(model: Adapted) -> Adapted:
    """A model of the same shape with other values, with the same adapter on it where there is one."""
    other: Adapted = model.twin()
    if is_adapted(model):
        adapter = adapter_of(model)
        attach(other, adapter.config, new_rows=[] if adapter.rows is None else adapter.rows.indices.tolist())
        for name, layer in model.named_modules():
            if isinstance(layer, SmallFrozen):  # codes are in no state_dict
                other.get_submodule(name).load_codes(layer)  # type: ignore[operator]
    return other


def merge(model: Adapted) -> None:
    """Give the model the weights with which it computes alone what it computed with its adapter, which goes.

    A base in few bits becomes float first. Raises UnsupportedModel for adapters that are no change of weights.
    """
    adapter = adapter_of(model)
    with torch.no_grad():
        widen(body(model))
        adapter.merge_into(model)
        if adapter.rows is not None:
            adapter.rows.merge_into(body(model))
    _off(model, adapter)
    del model.adapter


def save_adapter(model: Adapted, folder: Path, base_path: Path | str, base_id: str = "") -> None:
    """Write adapter_config.json and adapter_model.safetensors as PEFT does, and base.json, which says what they belong to."""
    adapter = adapter_of(model)
    fields, tensors = adapter.to_peft(model)
    there = names_on_disk(model)
    whole = [there(name) for name in adapter.in_full]
    if isinstance(model, Headed) and model.head is not None:
        heads = [next(iter(model.pieces(f"head.{name}"))) for name, _ in model.head.named_parameters()]
        whole += sorted({name.rpartition(".")[0] for name in heads})
    for own, parameter in model.named_parameters():
        name = next(iter(model.pieces(own))) if not own.startswith("adapter.") else ""
        if parameter.requires_grad and name:
            tensors[name] = parameter.detach()
    if adapter.rows is not None:
        more, indices = adapter.rows.to_peft()
        tensors |= more
        fields["trainable_token_indices"] = indices
    path = os.fspath(Path(base_path).resolve())
    common = {"task_type": peft.task_type(model), "base_model_name_or_path": path, "inference_mode": True, "revision": None}
    if whole:
        common["modules_to_save"] = whole
    if isinstance(model, CausalLM) and model.embedding.requires_grad and model.config.tie_word_embeddings:
        common["ensure_weight_tying"] = True  # else PEFT lets the table learn apart from the head, of which it wants a copy
        tensors["lm_head.weight"] = model.embedding.detach()
    peft.write(folder, {"peft_type": adapter.peft_type, **common, **fields}, tensors)
    head = {"head": model.config.head.model_dump(mode="json")} if isinstance(model, Headed) else {}
    held = {"held": adapter.config.base, "group": adapter.config.group}
    peft.write_base(folder, {"id": base_id, "path": path, **held, **head})


def load_adapter(model: Adapted, folder: Path, codes: Mapping[str, Quantised] | None = None) -> Adapter:
    """Lay the adapter of a PEFT folder, ours or any of a kind known here, on its base. codes: as for `attach`.

    Raises NotAnArtifact, UnsupportedModel (naming what is not computed) or DamagedWeights.
    """
    folder = Path(folder)
    found, tensors = peft.read(folder)
    kind: type[Adapter] = ADAPTERS[kind_of(found, folder)]
    config = kind.from_peft(folder, found, tensors, model)
    said = peft.read_base(folder)
    config = config.model_copy(update={"base": said.get("held", "float"), "group": said.get("group", 64)})
    rows, inner = NewRows.told(found, folder, body(model)), body(model)
    adapter = attach(model, config, codes=codes, new_rows=rows)
    if (
        isinstance(inner, CausalLM)
        and inner.embedding.requires_grad
        and inner.config.tie_word_embeddings
        and not found.get("ensure_weight_tying")
    ):
        detach(model)
        raise peft.refused(folder, ["modules_to_save: the embedding without the head that is tied to it"])
    with torch.no_grad():
        used = adapter.fill(tensors, model) | _fill_whole(model, adapter, tensors, folder)
        if adapter.rows is not None:
            used |= adapter.rows.fill(tensors, folder)
    if left := sorted(set(tensors) - used):
        detach(model)
        raise UnsupportedModel("\n  ".join([f"{folder}: tensors that fit no layer of {model.config.name}:", *left,
                                            "Was it trained on another base?"]))  # fmt: skip
    return adapter


def kind_of(found: Mapping[str, Any], folder: Path) -> str:
    """The name on the shelf of what an adapter_config.json asks for. Raises UnsupportedModel."""
    if found.get("peft_type") == "LORA":
        return "dora" if found.get("use_dora") else "lora"
    kinds: dict[str, str] = {ADAPTERS[name].peft_type: name for name in ADAPTERS.names() if name not in ("lora", "dora")}
    if (kind := str(found.get("peft_type"))) not in kinds:
        known = ", ".join(repr(one) for one in ["LORA", *kinds])
        raise UnsupportedModel(f"{folder}: peft_type: {found.get('peft_type')!r} (computed here: {known}). Merge it into its "
                               f"base with PEFT (merge_and_unload), and use the merged model.")  # fmt: skip
    return kinds[kind]


# ---- helpers


def adapter_of(model: Adapted) -> Adapter:
    """The adapter on a model. Raises ValueError where there is none."""
    if not is_adapted(model):
        raise ValueError("no adapter lies on the model")
    found: Adapter = model.adapter  # type: ignore[assignment]
    return found


def body(model: Adapted) -> LanguageModel:
    """The language model, under a task's head too."""
    return model.body if isinstance(model, Headed) else model


def whole_modules(patterns: list[str], model: Adapted) -> list[str]:
    """Our names of the modules that patterns mean. Raises BadSettings for one that means none."""
    found: list[str] = []
    named = [name for name, module in model.named_modules() if name and [*module.parameters(recurse=False)]]
    for pattern in patterns:
        fits = [name for name in named if matching(name, [pattern])]
        if not fits:
            near = nearest(pattern, sorted({name.rpartition(".")[2] for name in named}))
            raise BadSettings(f"--adapter.whole {pattern}: no module of {model.config.name} is called so. {near}")
        found += [name for name in fits if name not in found]
    return found


def asked_whole(model: Adapted, found: Mapping[str, Any]) -> list[str]:
    """The modules that a folder holds in full, but for the head of a task, which learns in any case.

    PEFT names every head that a task might have, so names that mean nothing here are left out; tensors of theirs would be missed.
    """
    heads = set()
    if isinstance(model, Headed) and model.head is not None:
        heads = {next(iter(model.pieces(f"head.{name}"))).rpartition(".")[0] for name, _ in model.head.named_parameters()}
    names = [name for name, part in model.named_modules() if name and [*part.parameters(recurse=False)]]
    asked = [str(one) for one in found.get("modules_to_save") or []]
    return [one for one in asked if one not in heads and any(matching(name, [one]) for name in names)]


def _on(model: Adapted, adapter: Adapter) -> None:
    adapter.lay_on(model)
    if adapter.rows is not None:
        adapter.rows.lay_on(body(model))


def _off(model: Adapted, adapter: Adapter) -> None:
    adapter.take_off(model)
    if adapter.rows is not None:
        adapter.rows.take_off(body(model))


def _fill_whole(model: Adapted, adapter: Adapter, tensors: Mapping[str, Tensor], folder: Path) -> set[str]:
    """Values of what learned in full: modules that were asked for, and a task's head."""
    used = set()
    own, known = dict(model.named_parameters()), names_here(model)
    for name, tensor in tensors.items():
        here = known(name)
        if here in own and own[here].requires_grad and not here.startswith("adapter."):
            peft.check_shape(folder, name, tensor, own[here].shape)
            own[here].copy_(tensor)
            used.add(name)
    return used
