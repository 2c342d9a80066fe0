"""A model for a vocabulary that grew: the rows of its tables and of its head, and nothing else, become more.

A new token begins as the mean of the pieces that its text was read as before; a special token, whose letters mean nothing, as
the mean of all tokens (Hewitt 2021, "Initializing new word embeddings for pretrained language models"). Rows that the model
kept as padding are used first. What it says of the old tokens does not change.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from danlu.core.errors import TokenizerMismatch, UnsupportedModel
from danlu.models.base import LanguageModel
from danlu.nn.bigram import BigramEmbedding
from danlu.tokenizer.tokenizer import Tokenizer


def resize(model: LanguageModel, old: Tokenizer, new: Tokenizer) -> None:
    """Make room in a model for `new`, which must be `old` with tokens behind it (tokenizer/extend.py).

    Its tables are replaced by larger ones, so an optimiser or an adapter comes after. Raises TokenizerMismatch where `new` is
    another vocabulary, UnsupportedModel for a model that cannot grow; the model is as it was then.
    """
    _check(model, old, new)
    size = max(model.vocab_size, new.vocab_size)
    names = {number: name for name, number in new.vocab.items() if number >= old.vocab_size}
    pieces = [_pieces(names.get(number), old, new) for number in range(old.vocab_size, new.vocab_size)]
    for name, axis in _tables(model).items():
        parent, _, leaf = name.rpartition(".")
        part = model.get_submodule(parent)
        table = getattr(part, leaf)
        filled = _filled(table.detach(), axis, size, old.vocab_size, pieces)
        is_parameter = isinstance(table, nn.Parameter)
        setattr(part, leaf, nn.Parameter(filled, requires_grad=table.requires_grad) if is_parameter else filled)
    before, config = model.config, model.config.model_copy(update={"vocab_size": size})
    for part in model.modules():
        if getattr(part, "config", None) is before:
            part.config = config


def _check(model: LanguageModel, old: Tokenizer, new: Tokenizer) -> None:
    if model.counted:
        raise UnsupportedModel(f"{model.config.name} counts texts, and its counts know no new tokens; count again instead.")
    moved = [name for name, number in old.vocab.items() if new.vocab.get(name) != number]
    if moved or not old.vocab_size <= model.vocab_size:
        reason = f"{len(moved)} tokens have other ids ({', '.join(map(repr, moved[:3]))})" if moved else "it is not the model's"
        raise TokenizerMismatch(
            f"the model embeds {model.vocab_size} tokens of a tokenizer with {old.vocab_size}, and the one to grow to has "
            f"{new.vocab_size}: {reason}. Make it from the model's own tokenizer (tokenizer/extend.py)."
        )
    if new.vocab_size > model.vocab_size and any(isinstance(part, BigramEmbedding) for part in model.modules()):
        raise UnsupportedModel(
            f"{model.config.name} with pairs of tokens (bigram_rows) finds a pair by the size of the vocabulary, so that every "
            f"pair would be lost if it grew. Train with the tokens from the start, or without bigram_rows."
        )


def _pieces(name: str | None, old: Tokenizer, new: Tokenizer) -> list[int]:
    """The old tokens that a new one was read as; none for a special token, and for an id without a name."""
    return [] if name is None or name in new.special_tokens else old.encode(name)


def _tables(model: LanguageModel) -> dict[str, int]:
    """Which tensors have a row for every token, and along which axis: those that change shape with the vocabulary."""
    config = model.config.model_copy(update={"vocab_size": model.vocab_size + 1})
    with torch.device("meta"):
        other = type(model)(config).state_dict()
    axes = {name: _axis(tensor, other[name].shape) for name, tensor in model.state_dict().items()}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _axis(tensor: Tensor, shape: Sequence[int]) -> int | None:
    """The axis along which a tensor has another shape; None: it has not."""
    return next((axis for axis, (here, there) in enumerate(zip(tensor.shape, shape, strict=True)) if here != there), None)


def _filled(tensor: Tensor, axis: int, size: int, known: int, pieces: Sequence[Sequence[int]]) -> Tensor:
    """A table with `size` entries along an axis: the known ones as they are, then one for each new token, then padding."""
    rows = tensor.movedim(axis, 0)
    made = rows.new_zeros(size, *rows.shape[1:])
    made[: len(rows)] = rows
    mean = rows[:known].float().mean(0)
    for place, parts in enumerate(pieces, known):
        made[place] = (rows[list(parts)].float().mean(0) if parts else mean).to(rows.dtype)
    return made.movedim(0, axis).contiguous()
