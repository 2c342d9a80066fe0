"""What the parts of a model are called: by patterns of a person's, and on disk."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn


def matching(name: str, patterns: Iterable[str]) -> bool:
    """Whether a dotted name is, ends with, or fits as a glob, one of the patterns.

    >>> matching("model.layers.0.self_attn.q_proj", ["q_proj"]), matching("model.layers.0.self_attn.q_proj", ["proj"])
    (True, False)
    >>> matching("model.layers.1.mlp.up_proj", ["model.layers.[0-3].mlp.*"])
    True
    """
    return any(name == one or name.endswith(f".{one}") or fnmatchcase(name, one) for one in patterns)


def names_on_disk(model: Any) -> Callable[[str], str]:
    """How a module of ours with a weight is called on disk. Raises ValueError for one that lies there in parts."""

    def there(own: str) -> str:
        (name, part), *more = model.pieces(f"{own}.weight").items()
        if more or part is not ...:
            raise ValueError(f"{own} lies in parts on disk")
        return str(name.removesuffix(".weight"))

    return there


def names_here(model: Any) -> Callable[[str], str | None]:
    """How a tensor on disk is called here, also under a task's head; None for one that carries nothing."""
    layers = [f"{name}.weight" for name, part in model.named_modules() if hasattr(part, "matrix")]  # some hold no float weight
    own = dict.fromkeys([*(name for name, _ in model.named_parameters() if not name.startswith("adapter.")), *layers])
    known = {there: name for name in own for there, part in model.pieces(name).items() if part is ...}

    def here(name: str) -> str | None:
        return known.get(name) or model.name_here(name)

    return here


def nest(root: nn.Module, name: str, part: nn.Module) -> None:
    """Put a part below `root` under a dotted name, with plain modules between."""
    *parents, last = name.split(".")
    for parent in parents:
        if not hasattr(root, parent):
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(last, part)
