"""The vectors of new tokens, which learn beside a frozen embedding and head.

PEFT calls them trainable tokens: the file holds the values of those rows. A head tied to the embedding takes the same rows.
V vocabulary, D width, n rows that learn.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danlu.core.errors import UnsupportedModel
from danlu.models.adapters.peft import check_shape
from danlu.models.base import LanguageModel
from danlu.nn.linear import Embedding, lay_on

FIELD = "trainable_token_indices"
_TENSOR = "token_adapter.trainable_tokens_delta"


class NewRows(nn.Module):
    """Rows of the embedding, and of a head of its own, by the ids of their tokens."""

    indices: Tensor
    place: Tensor

    def __init__(self, model: LanguageModel, indices: Sequence[int]):
        super().__init__()
        self.names = names_of(model)
        tables: list[Any] = [model.get_submodule(name) for name in self.names]
        self.register_buffer("indices", torch.tensor(list(indices), dtype=torch.int64), persistent=False)
        place = torch.full((len(model.embedding),), -1)
        place[self.indices] = torch.arange(len(self.indices))
        self.register_buffer("place", place, persistent=False)
        first = [nn.Parameter(table.weight.detach()[self.indices].clone()) for table in tables]
        self.embedding_rows = first[0]
        self.head_rows = first[1] if len(first) == 2 else None

    @property
    def values(self) -> dict[str, nn.Parameter]:
        """The rows by the name of the module that they belong to."""
        both = (self.embedding_rows, self.head_rows)
        return {name: rows for name, rows in zip(self.names, both, strict=False) if rows is not None}

    def lay_on(self, model: LanguageModel) -> None:
        """Let the model read and write with these rows."""
        lay_on(model.get_submodule(self.names[0]), self.read)
        model.__dict__["new_rows"] = self.written

    def take_off(self, model: LanguageModel) -> None:
        """Let the model read and write with its own rows."""
        lay_on(model.get_submodule(self.names[0]), None)
        model.__dict__["new_rows"] = None

    def read(self, ids: Tensor, rows: Tensor) -> Tensor:
        """What the embedding answers, with the new rows in their places."""
        place = self.place[ids]
        new = place >= 0
        return rows.index_put((new,), self.embedding_rows[place[new]].to(rows.dtype))

    def written(self, weight_VD: Tensor) -> Tensor:
        """The output weight with the new rows in their places."""
        rows = self.embedding_rows if self.head_rows is None else self.head_rows
        return weight_VD.detach().index_copy(0, self.indices, rows.to(weight_VD.dtype))

    def merge_into(self, model: LanguageModel) -> None:
        """Write the rows into the model's own tables."""
        for name, rows in self.values.items():
            table: Any = model.get_submodule(name)
            table.weight.data[self.indices] = rows.detach()

    def to_peft(self) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
        """Tensors, and the field that says whose they are."""
        tensors = {f"{name}.{_TENSOR}": rows.detach() for name, rows in self.values.items()}
        return tensors, {name.rpartition(".")[2]: self.indices.tolist() for name in self.names}

    def fill(self, tensors: Mapping[str, Tensor], folder: Path) -> set[str]:
        """Take a folder's values; the names of those that were used."""
        there = {f"{name}.{_TENSOR}": rows for name, rows in self.values.items()}
        for name in there.keys() & tensors.keys():
            check_shape(folder, name, tensors[name], there[name].shape)
            there[name].data.copy_(tensors[name])
        return set(there)

    @staticmethod
    def told(found: Mapping[str, Any], folder: Path, model: LanguageModel) -> list[int]:
        """The ids whose rows a folder holds; empty where it has none. Raises UnsupportedModel where they do not fit."""
        said = found.get(FIELD)
        if not said:
            return []
        names = [name.rpartition(".")[2] for name in names_of(model)]
        lists = said if isinstance(said, dict) else {names[0]: said}
        if set(lists) != set(names) or any(ids != next(iter(lists.values())) for ids in lists.values()):
            raise UnsupportedModel(
                f"{folder}: {FIELD} {sorted(lists)}: the same rows of {' and '.join(names)} are computed here."
            )
        ids = [int(one) for one in next(iter(lists.values()))]
        if max(ids) >= len(model.embedding):
            raise UnsupportedModel(f"{folder} knows {max(ids) + 1} tokens, but the base embeds {len(model.embedding)}: open the "
                                   f"adapter's own folder (danlu.load), which makes room for them.")  # fmt: skip
        return ids


def names_of(model: LanguageModel) -> list[str]:
    """The modules that hold the embedding and, where it is another matrix, the head. Raises UnsupportedModel."""
    if type(model).output_weight is not LanguageModel.output_weight:
        raise UnsupportedModel(f"{model.config.name} has a head of its own kind: rows of new tokens cannot learn alone. Train "
                               f"the embedding in full: --adapter.whole.")  # fmt: skip
    tables = [name for name, part in model.named_modules() if isinstance(part, Embedding) and part.weight is model.embedding]
    return tables[:1] + (["lm_head"] if hasattr(model, "lm_head") else [])
