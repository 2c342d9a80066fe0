"""Which rule fits which weight: hidden matrices, lookup tables (embeddings and heads), and vectors.

Names decide, since they are the names on disk: a table's rows are looked up or scored one by one, so an
update that mixes rows (Muon) suits hidden matrices only. Numbers that stand for one channel each are vectors whatever
their shape: decays, the taps of a channel's own convolution, shares of the token before.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch.nn import Parameter

_TABLE = re.compile(r"(^|[._])(embed\w*|emb|wte|wpe|lm_head|head|score|classifier)([._]|$)|^shared\.|^decoder\.weight$")
_CHANNELS = re.compile(r"(^|\.)(A_log|conv1d\.weight|time_\w+|x_[rwkvag]|r_k)$")


@dataclass
class Roles:
    """Trainable parameters by what they do; each parameter appears once."""

    matrices: list[Parameter] = field(default_factory=list)
    tables: list[Parameter] = field(default_factory=list)
    vectors: list[Parameter] = field(default_factory=list)


def roles(named_parameters: Iterable[tuple[str, Parameter]]) -> Roles:
    """Sort the parameters that want gradients; a tied head is its embedding and counts once.

    >>> import torch
    >>> table, matrix = Parameter(torch.zeros(7, 3)), Parameter(torch.zeros(5, 3))
    >>> found = roles([("model.embed_tokens.weight", table), ("layers.0.q_proj.weight", matrix)])
    >>> len(found.tables), len(found.matrices), len(found.vectors)
    (1, 1, 0)
    """
    found, seen = Roles(), set()
    for name, parameter in named_parameters:
        if not parameter.requires_grad or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        if parameter.ndim < 2 or _CHANNELS.search(name):
            found.vectors.append(parameter)
        elif _TABLE.search(name):
            found.tables.append(parameter)
        else:
            found.matrices.append(parameter)
    return found


def decaying(named_parameters: Iterable[tuple[str, Parameter]], rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser of PyTorch's in which matrices decay, tables and vectors do not."""
    found = roles(named_parameters)
    groups = [(found.matrices, weight_decay), ([*found.tables, *found.vectors], 0.0)]
    return [{"params": part, "weight_decay": decay, "base_lr": rate} for part, decay in groups if part]
