"""Freeze a part of a model by the names of its parameters."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from danlu.core.errors import BadSettings, nearest


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Let the parameters that a glob fits learn no more; their names, in order.

    'model.layers.[0-3].*' are the first four layers. A tied head is its embedding. Raises BadSettings, and freezes nothing,
    where a pattern fits nothing or all is frozen.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadSettings(
                f"--freeze {pattern}: no parameter of the model fits. {nearest(pattern, [*names, *_groups(names)])}"
            )
    frozen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if frozen and len(frozen) == len(names):
        raise BadSettings(f"--freeze {' '.join(patterns)} leaves nothing to learn. Freeze less, or take --adapter lora.")
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen


def _groups(names: Sequence[str]) -> list[str]:
    """Globs that would fit: everything below each module."""
    parts = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 1)}
    return [f"{part}.*" for part in sorted(parts)]
