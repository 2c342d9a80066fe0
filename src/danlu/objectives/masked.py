"""Masked language modelling (BERT, Devlin et al. 2019, arXiv:1810.04805, section 3.1): name the tokens that were hidden.

Whole words are hidden together (arXiv:1906.08101 for Chinese), so that a word does not give itself away by its other half;
the tokens of one character always are. Special tokens and filling are neither hidden nor asked for. R rows, T tokens,
U units (runs of tokens that share a word).
"""

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from danlu.core.errors import TokenizerMismatch
from danlu.core.labels import NO_LABEL
from danlu.core.settings import Named
from danlu.data.letters import UNIT, Array, kinds_of
from danlu.data.pack import Row
from danlu.data.word_begins import codes_of, widths_of, word_begins
from danlu.objectives import OBJECTIVES
from danlu.objectives.base import Batch, Objective
from danlu.tokenizer.definition import MASK
from danlu.tokenizer.tokenizer import Tokenizer


@OBJECTIVES.register
class Masked(Objective):
    """What encoders are pre-trained with."""

    kind = "MaskedLM"
    family = "modernbert"
    special_tokens = (MASK,)
    unit = "masked token"
    of_text = False

    class Config(Named):
        name: Literal["masked"] = "masked"  # type: ignore[assignment]  # narrows
        rate: float = Field(0.15, gt=0, lt=1)
        """Share of a row's tokens that are asked for."""
        masked: float = Field(0.8, ge=0, le=1)
        """Of these, the share that becomes the mask token."""
        random: float = Field(0.1, ge=0, le=1)
        """Of these, the share that becomes any other token; what is left stays as it is."""
        whole_words: bool = True
        """Hide whole words; off, whole characters."""
        han: Literal["auto", "words", "bigrams", "characters"] = "auto"
        """What is a word of Chinese and kana: words of a dictionary (extra: zh), neighbouring pairs, or single characters. auto:
        words where the extra is installed, else bigrams; the choice is recorded."""

        @field_validator("han")
        @classmethod
        def _decided(cls, value: str) -> str:
            return value if value != "auto" else "bigrams" if find_spec("rjieba") is None else "words"

        @model_validator(mode="after")
        def _shares(self) -> Self:
            if self.masked + self.random > 1:
                raise ValueError(f"masked {self.masked} and random {self.random} are shares of one whole: together 1 at most")
            return self

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self._right = 0.0

    def batch(self, rows: Sequence[Row], seeds: Sequence[int]) -> Batch:
        """Rows with some units hidden; the targets are the tokens that stood there."""
        hidden = [self.hide(row, seed) for row, seed in zip(rows, seeds, strict=True)]
        ids, targets = (torch.from_numpy(np.stack(column)) for column in zip(*hidden, strict=True))
        documents = torch.from_numpy(np.stack([row.documents for row in rows]))
        read = torch.tensor([int((row.targets != NO_LABEL).sum()) for row in rows])
        return Batch(ids=ids, targets=targets, documents=documents, origin=[row.origin for row in rows], read=read)

    def hide(self, row: Row, seed: int) -> tuple[Array, Array]:
        """The row's tokens with some of them hidden, and what is asked for, (T,) each.

        As many units as make up the rate; the one that crosses it, by chance, so that the rate holds on average; one or more.
        """
        dice = np.random.default_rng(seed)
        words = self._words
        eligible = (row.targets != NO_LABEL) & ~words.special[row.ids]
        units = words.units(row.ids, row.documents, eligible, self.config.whole_words, self.config.han, int(dice.integers(2)))
        ids, targets = row.ids.copy(), np.full_like(row.ids, NO_LABEL)
        if not eligible.any():
            return ids, targets
        sizes = np.bincount(units[eligible])
        order = dice.permutation(len(sizes))
        ends = np.cumsum(sizes[order])
        wanted = self.config.rate * ends[-1]
        crossing = int(np.searchsorted(ends, wanted))
        over = (ends[crossing] - wanted) / sizes[order[crossing]]
        taken = order[: max(crossing + int(dice.random() >= over), 1)]
        fate = np.full(len(sizes), 3)
        fate[taken] = np.searchsorted(
            [self.config.masked, self.config.masked + self.config.random], dice.random(len(taken)), "right"
        )
        fates = np.where(eligible, fate[units], 3)
        asked = fates < 3
        targets[asked] = row.ids[asked]
        ids[fates == 0] = words.mask
        ids[fates == 1] = words.ordinary[dice.integers(len(words.ordinary), size=int((fates == 1).sum()))]
        return ids, targets

    @functools.cached_property
    def _words(self) -> "Words":
        if self.tokenizer is None or self.tokenizer.mask_id is None:
            raise TokenizerMismatch(
                f"the masked objective needs a tokenizer with a mask token, such as {MASK}. Train one with `danlu tokenizer` and "
                f"--special_tokens, or leave --tokenizer out."
            )
        return Words(self.tokenizer)

    def loss_sum(self, model: Any, batch: Batch) -> Tensor:
        hidden_BTD = model.hidden(batch.ids, documents_BT=batch.documents)
        loss: Tensor = model.cross_entropy_sum(hidden_BTD.flatten(0, 1), batch.targets.flatten())
        if not torch.is_grad_enabled():
            asked = batch.targets != NO_LABEL
            self._right = float((model.logits(hidden_BTD[asked]).argmax(-1) == batch.targets[asked]).sum())
        return loss

    def figures(self) -> dict[str, float]:
        return {"accuracy": self._right}


class Words:
    """What the tokens of a vocabulary are made of, and so which of them stand together."""

    def __init__(self, tokenizer: Tokenizer):
        assert tokenizer.mask_id is not None
        self.mask = tokenizer.mask_id
        self.special = np.zeros(tokenizer.vocab_size, bool)
        self.special[list(tokenizer.special_tokens.values())] = True
        self.ordinary = np.flatnonzero(~self.special)
        self.bytes = [b"\n" if special else tokenizer.token_bytes(number) or b"\n" for number, special in enumerate(self.special)]
        self.sizes = np.array([len(part) for part in self.bytes])
        self.begins = self._own_beginnings(tokenizer)

    def _own_beginnings(self, tokenizer: Tokenizer) -> Array:
        """Tokens that begin a word by their name alone: of WordPiece, all without its prefix, since blanks are not kept."""
        prefix = tokenizer.parts["model"].get("continuing_subword_prefix")
        found = np.zeros(tokenizer.vocab_size, bool)
        if prefix and tokenizer.parts["model"].get("type") == "WordPiece":
            found[[number for name, number in tokenizer.vocab.items() if not name.startswith(prefix)]] = True
        return found

    def units(self, ids: Array, documents: Array, eligible: Array, whole_words: bool, han: Any, phase: int) -> Array:
        """Which unit each token belongs to, (T,) from 0 without gaps among the eligible ones; others hold any number."""
        codes = codes_of(b"".join([self.bytes[number] for number in ids.tolist()]))
        character_of_byte = np.repeat(np.arange(len(codes)), widths_of(codes))
        ends = np.cumsum(self.sizes[ids])
        first, last = character_of_byte[ends - self.sizes[ids]], character_of_byte[ends - 1]
        new = first[1:] != last[:-1]
        if whole_words:
            word = np.cumsum(word_begins(codes, han, phase))
            apart = self.begins[ids[1:]] & ~((kinds_of(codes[first[1:]]) == UNIT) & (kinds_of(codes[last[:-1]]) == UNIT))
            new &= (word[first[1:]] != word[last[:-1]]) | apart
        new |= (np.diff(documents) != 0) | ~eligible[1:] | ~eligible[:-1]
        return np.cumsum(np.concatenate([eligible[:1], new & eligible[1:]])) - 1
