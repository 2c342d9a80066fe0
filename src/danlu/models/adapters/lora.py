"""LoRA: each chosen matrix gains a product of two thin ones (Hu et al. 2021, arXiv:2106.09685).

y = W x + scale B (A x), scale = alpha / rank, or alpha / sqrt(rank) where it is to be stable over ranks (rsLoRA, Kalajdzievski
2023, arXiv:2312.03732). B begins at zero. Leaves out embeddings, convolutions and stacks of experts. R rank.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.core.errors import BadSettings, DamagedWeights, UnsupportedModel, nearest
from danlu.core.seeds import derive
from danlu.models.adapters import ADAPTERS, peft
from danlu.models.adapters.base import Adapted, Adapter, AdapterConfig, asked_whole, body
from danlu.models.adapters.held import Layer, layers_of_blocks
from danlu.models.adapters.names import matching, names_here, names_on_disk, nest
from danlu.nn.init import uniform
from danlu.nn.linear import Linear, Transposed, lay_on
from danlu.nn.low_rank import LowRank
from danlu.nn.small_frozen import SmallFrozen

READ = frozenset({
    "alpha_pattern", "fan_in_fan_out", "lora_alpha", "modules_to_save", "r", "rank_pattern", "target_modules", "use_rslora",
    "trainable_token_indices", "lora_dropout",
})  # fmt: skip
"""Fields that are read."""
HARMLESS = frozenset({
    "ensure_weight_tying", "eva_config", "exclude_modules", "layers_pattern", "layers_to_transform", "megatron_core",
    "qalora_group_size",
})  # fmt: skip
"""Which matrices, which the tensors say, and how it was trained."""
NOTHING: dict[str, tuple[Any, ...]] = {"bias": ("none",), "init_lora_weights": (True, "gaussian", "orthogonal", "eva")}


@ADAPTERS.register
class LoRA(Adapter):
    """`parts`: what lies on each layer, by the layer's name in the model."""

    peft_type = "LORA"
    tensors: ClassVar[dict[str, str]] = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}
    """How a part's parameters are called on disk."""

    class Config(AdapterConfig):
        """Which matrices, and how thin the products are."""

        name: Literal["lora"] = "lora"
        rank: int = Field(16, ge=1)
        """Channels between the two thin matrices."""
        alpha: float = Field(32.0, gt=0)
        """What is added is multiplied by alpha / rank."""
        rslora: bool = False
        """Multiply by alpha / sqrt(rank) instead: larger ranks then learn as fast as small ones."""
        dropout: float = Field(0.0, ge=0, lt=1)
        """Share of the input channels that the added product does not see, drawn anew for each token while training."""
        targets: list[str] = Field([])
        """Layers that gain a product, by the ends of their names or as globs: q_proj, 'model.layers.[0-3].*'; left out: every
        linear layer of the blocks."""
        ranks: dict[str, int] = Field({})
        """Other ranks for some layers, by patterns as in targets."""
        alphas: dict[str, float] = Field({})
        """Other alphas for some layers, by patterns as in targets."""

    def __init__(self, config: Any, model: Adapted, seed: int = 0):
        super().__init__(config, model)
        self.parts: dict[str, LowRank] = {}
        self.on = nn.Module()
        for name, disk, layer in targets(config, model):
            rank, alpha = pick(disk, config.ranks, config.rank), pick(disk, config.alphas, config.alpha)
            outputs, inputs = layer.shape if isinstance(layer, SmallFrozen) else layer.matrix.shape
            part = self.part(layer, inputs, outputs, int(rank), alpha / (rank**0.5 if config.rslora else rank))
            with torch.no_grad():
                generator = torch.Generator().manual_seed(derive(seed, "adapter", disk))
                part.lora_A.copy_(uniform(part.lora_A, inputs**-0.5, generator))
                part.lora_B.zero_()
            self.parts[name] = part
            nest(self.on, name, part)

    def part(self, layer: Layer, inputs: int, outputs: int, rank: int, scale: float) -> LowRank:
        """What one layer gains."""
        return LowRank(inputs, outputs, rank, scale, self.config.dropout)

    def lay_on(self, model: Adapted) -> None:
        for name, part in self.parts.items():
            lay_on(model.get_submodule(name), part)

    def take_off(self, model: Adapted) -> None:
        for name in self.parts:
            lay_on(model.get_submodule(name), None)

    def merge_into(self, model: Adapted) -> None:
        for name, part in self.parts.items():
            layer: Any = model.get_submodule(name)
            merged_OI = self.merged(layer, part)
            layer.weight.data = (merged_OI.t() if isinstance(layer, Transposed) else merged_OI).to(layer.weight).contiguous()

    def merged(self, layer: Any, part: Any) -> Tensor:
        """The layer's matrix with its part in it, (O, I) float32."""
        matrix: Tensor = layer.matrix.float() + part.change().float()
        return matrix

    # ---- files

    def to_peft(self, model: Adapted) -> tuple[dict[str, Any], dict[str, Tensor]]:
        there, config = names_on_disk(model), self.config
        disk = {there(name): part for name, part in self.parts.items()}
        ranks = {name: len(part.lora_A) for name, part in disk.items() if len(part.lora_A) != config.rank}
        alphas = {name: pick(name, config.alphas, config.alpha) for name in disk}
        fields = {
            "r": config.rank, "lora_alpha": _whole(config.alpha), "lora_dropout": config.dropout, "use_rslora": config.rslora,
            "target_modules": endings(disk, model, there), "bias": "none", "init_lora_weights": True,
            "rank_pattern": ranks, "use_dora": False,
            "alpha_pattern": {name: _whole(alpha) for name, alpha in alphas.items() if alpha != config.alpha},
            "fan_in_fan_out": any(isinstance(model.get_submodule(name), Transposed) for name in self.parts),
        }  # fmt: skip
        tensors = {f"{name}.{end}": getattr(part, own) for name, part in disk.items() for own, end in self.tensors.items()}
        return fields, tensors

    @classmethod
    def from_peft(cls, folder: Path, found: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Adapted) -> AdapterConfig:
        for field in ("r", "lora_alpha"):
            if isinstance(found.get(field), bool) or not isinstance(found.get(field), (int, float)) or found[field] <= 0:
                raise peft.refused(folder, [f"{field}: {found.get(field)!r} (a number above 0)"])
        peft.check(folder, found, READ | HARMLESS | cls.also_read(), NOTHING)
        names, here = modules(folder, tensors), layers_here(model)
        ranks = {name: len(tensors[f"{name}.lora_A.weight"]) for name in names}
        said = {name: said_for(found, name, "rank_pattern", "r") for name in names}
        for name, rank in ranks.items():
            if rank != said[name]:
                raise DamagedWeights(f"{folder}: {name} has {rank} channels, but {peft.CONFIG} says {said[name]:g}. Copy the "
                                     f"adapter again.")  # fmt: skip
        alphas = {name: said_for(found, name, "alpha_pattern", "lora_alpha") for name in names}
        common, alpha = int(found["r"]), float(found["lora_alpha"])
        config: AdapterConfig = cls.Config(
            rank=common, alpha=alpha, rslora=bool(found.get("use_rslora")), dropout=found.get("lora_dropout") or 0.0,
            targets=[here(name)[1] for name in names], whole=asked_whole(model, found),
            ranks={here(name)[1]: rank for name, rank in ranks.items() if rank != common},
            alphas={here(name)[1]: one for name, one in alphas.items() if one != alpha},
        )  # type: ignore[call-arg]  # fmt: skip
        return config

    @classmethod
    def also_read(cls) -> frozenset[str]:
        """Fields that a kind built on this one reads too."""
        return frozenset()

    def fill(self, tensors: Mapping[str, Tensor], model: Adapted) -> set[str]:
        used, here = set(), layers_here(model)
        for name in modules(Path(), tensors):
            part = self.parts[here(name)[0]]
            for field, end in self.tensors.items():
                there, own = f"{name}.{end}", getattr(part, field)
                if there in tensors:
                    peft.check_shape(Path(model.config.name), there, tensors[there], own.shape)
                    own.copy_(tensors[there])
                    used.add(there)
        return used


def targets(config: Any, model: Adapted) -> Iterator[tuple[str, str, Layer]]:
    """The layers that gain a product: name here, name on disk, layer. Raises BadSettings for a pattern that fits none."""
    there, inner = names_on_disk(model), body(model)
    known: dict[str, tuple[str, Layer]] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, (Linear, Transposed, SmallFrozen)) or name.startswith("head."):
            continue
        if isinstance(layer, SmallFrozen) or not _is_output(layer, inner):
            known[there(name)] = (name, layer)
    wanted = {id(layer) for _, layer in layers_of_blocks(inner)}
    if not wanted:
        raise UnsupportedModel(f"{model.config.name} has no linear layers that could gain anything: train it in full.")
    for field, patterns in (("targets", config.targets), ("ranks", config.ranks), ("alphas", config.alphas)):
        for pattern in patterns:
            if not any(matching(disk, [pattern]) for disk in known):
                near = nearest(pattern, sorted({disk.rpartition(".")[2] for disk in known}))
                head = " The words' head learns in full: --adapter.whole lm_head." if "head" in pattern else ""
                raise BadSettings(
                    f"--adapter.{field} {pattern}: no linear layer of {model.config.name} is called so. {near}{head}"
                )
    for disk, (name, layer) in known.items():
        if matching(disk, config.targets) if config.targets else id(layer) in wanted:
            yield name, disk, layer


def pick(name: str, patterns: Mapping[str, float], common: float) -> float:
    """The number of the first pattern that fits a name, else the common one."""
    return next((value for pattern, value in patterns.items() if matching(name, [pattern])), common)


def modules(folder: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    """The layers that a folder's tensors belong to. Raises DamagedWeights where A and B do not go together."""
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if found := re.fullmatch(r"(.+)\.lora_(A|B)\.weight", name):
            halves.setdefault(found[1], {})[found[2]] = tensor
    odd = [name for name, pair in halves.items() if len(pair) != 2 or len(pair["A"]) != pair["B"].size(-1)]
    if odd or not halves:
        raise DamagedWeights(f"{folder / peft.WEIGHTS}: A and B do not go together in "
                             f"{', '.join(odd) or 'any module: there are none'}.")  # fmt: skip
    return list(halves)


def said_for(found: Mapping[str, Any], name: str, pattern: str, common: str) -> float:
    """A number for one module: of the first pattern that fits the end of its name, else the common one."""
    for ending, value in (found.get(pattern) or {}).items():
        if re.fullmatch(rf"(.*\.)?({ending})", name):
            return float(value)
    return float(found[common])


def layers_here(model: Adapted) -> Callable[[str], tuple[str, str]]:
    """Our name of a layer on disk, and the name that we write, which older files may call otherwise.

    Raises UnsupportedModel for a layer that is not here.
    """
    here, there, own_modules = names_here(model), names_on_disk(model), dict(model.named_modules())

    def find(name: str) -> tuple[str, str]:
        own = (here(f"{name}.weight") or "").removesuffix(".weight")
        if not isinstance(own_modules.get(own), (Linear, Transposed, SmallFrozen)):
            raise UnsupportedModel(
                f"{name}: no layer of {model.config.name} that takes an adapter. Was it trained on another base?"
            )
        return own, there(own)

    return find


def endings(chosen: Mapping[str, Any], model: Adapted, there: Any) -> list[str]:
    """The last parts of the layers' names where they mean these layers alone, else the whole names."""
    ends = {name.rpartition(".")[2] for name in chosen}
    linear = (Linear, Transposed, SmallFrozen)
    same = {there(name) for name, part in model.named_modules() if isinstance(part, linear) and name.rpartition(".")[2] in ends}
    return sorted(ends if same <= set(chosen) else chosen)


def _is_output(layer: Linear | Transposed, model: Any) -> bool:
    head = getattr(model, "lm_head", None)
    return layer is head or any(layer.weight is part for part in (model.embedding, _output(model)))


def _output(model: Any) -> Tensor | None:
    try:
        found: Tensor = model.output_weight
    except AttributeError:  # a body without its words' head
        return None
    return found


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number
