"""How a model splits for many devices and little memory: its repeated blocks, found by structure.

Single-device model code stays free of it: the launcher shards, checkpoints and compiles these blocks one by one.
"""

from torch import nn


def blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The repeated layers of a model with their names, in order of depth; empty for a model without a list of layers.

    A model's stack is its outermost ModuleList that holds the most parameters; an encoder and a decoder are two stacks.
    """
    lists = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    if not lists:
        return []
    main, _ = max(lists, key=lambda pair: sum(parameter.numel() for parameter in pair[1].parameters()))
    sides = [(name, stack) for name, stack in lists if _side(name, main)]
    return [(f"{name}.{index}", block) for name, stack in sides for index, block in enumerate(stack)]


def _side(name: str, main: str) -> bool:
    """Whether a list is the stack `main` or the same stack of the other side: they differ in `encoder` and `decoder` alone."""
    return name.replace("decoder", "encoder") == main.replace("decoder", "encoder")
