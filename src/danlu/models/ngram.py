"""N-gram model with interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999): what counting alone foresees.

A token depends on the `order - 1` tokens before it in its document, and on nothing else. Nothing is trained: kneser_ney.py
says how counts become the tables here. B rows, T tokens, N places, C = order - 1 tokens of context, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NoReturn, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from danlu.core.labels import NO_LABEL
from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.models.config import ModelConfig
from danlu.models.kneser_ney import Level, count
from danlu.nn.mask import Sight, positions
from danlu.nn.state import RecurrentState, State


class Table(nn.Module):
    """The k-grams of one order (kneser_ney.Level) as tensors; the first has no keys, the last is the context of nothing."""

    def __init__(self, entries: int, *, first: bool, last: bool):
        super().__init__()
        self.register_buffer("probability", torch.full((entries,), 1 / entries if first else 0.0))
        if not last:
            self.register_buffer("backoff", torch.ones(entries))
        if not first:
            self.register_buffer("keys", torch.zeros(entries, dtype=torch.int64))

    def find(self, key_N: Tensor) -> Tensor:
        """Number of each key, -1 for those that are not here; negative keys are not."""
        if not len(self.keys):
            return torch.full_like(key_N, -1)
        at_N = torch.searchsorted(self.keys, key_N).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[at_N] == key_N, at_N, -1)

    @staticmethod
    def pick(values: Tensor, number_N: Tensor, otherwise: float) -> Tensor:
        """Entries of a column by number, (N,); `otherwise` where the number is -1."""
        if not len(values):
            return torch.full_like(number_N, otherwise, dtype=values.dtype)
        return torch.where(number_N < 0, otherwise, values[number_N.clamp(min=0)])


@MODELS.register
class NGram(CausalLM):
    """Saved in Danlu's own folder format, `model_type` danlu_ngram.

    What other families call the hidden vector is here the context itself: the last C tokens as numbers, -1 before the
    document began. `logits` are natural logarithms of probabilities that add up to 1.
    """

    counted = True
    one_way = True

    class Config(ModelConfig):
        hf_type: ClassVar[str] = "danlu_ngram"
        hf_class: ClassVar[str] = "DanluNGram"
        required: ClassVar[tuple[str, ...]] = ("vocab_size", "order", "ngrams")
        sizes: ClassVar[dict[str, str]] = {"context": "max_position_embeddings"}

        name: Literal["ngram"] = "ngram"  # type: ignore[assignment]  # narrows
        order: int = Field(5, ge=1, le=12)
        """Tokens that count: the next one and those before it."""
        ngrams: tuple[int, ...] = ()
        """How many different sequences of 2, 3, ... tokens the text had: what counting found, empty before it."""
        max_position_embeddings: int = Field(1024, gt=0)
        """Most tokens of prompt and answer together, as other families have it; an n-gram sees no more than its order."""

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if len(self.ngrams) not in (0, self.order - 1) or any(entries < 0 for entries in self.ngrams):
                raise ValueError(f"order {self.order} has {self.order - 1} tables of n-grams, not {len(self.ngrams)}")
            return self

        @property
        def width(self) -> int:
            return self.order - 1

        @property
        def depth(self) -> int:
            return self.order

        @property
        def attention_width(self) -> int:
            return 0

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        entries = [config.vocab_size, *config.ngrams]
        self.levels = nn.ModuleList(
            Table(size, first=index == 0, last=index + 1 == len(entries)) for index, size in enumerate(entries)
        )

    @classmethod
    def counted_from(cls, config: Config, levels: list[Level]) -> Self:
        """A model of counts; `ngrams` of the config is what was found."""
        model = cls(config.model_copy(update={"ngrams": tuple(len(level.keys) for level in levels[1:])}))
        for table, level in zip(model.levels, levels, strict=True):
            for name, buffer in table.named_buffers():
                buffer.copy_(torch.from_numpy(getattr(level, name)))
        return model

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Contexts, (B, T, C) int64, the latest token last."""
        if prefix_BT is not None:
            raise ValueError("an n-gram model reads from left to right only: it has no prefix that sees both ways")
        Sight(ids_BT.size(1), state.length if state else 0, documents_BT)  # refuses a state together with documents
        past = self.config.width
        before_BC = ids_BT.new_full((len(ids_BT), past), -1) if state is None else state.layers[0].last
        line = torch.cat([before_BC, ids_BT], 1)
        if state is not None:
            state.layers[0].last = line[:, line.size(1) - past :]
            state.length += ids_BT.size(1)
        back_C = torch.arange(past, device=ids_BT.device)
        at_TC = torch.arange(1, ids_BT.size(1) + 1, device=ids_BT.device)[:, None] + back_C
        context_BTC = line[:, at_TC]
        if documents_BT is not None:
            context_BTC = context_BTC.masked_fill(positions(documents_BT)[:, :, None] < past - 1 - back_C, -1)
        return context_BTC

    def logits(self, hidden: Tensor) -> Tensor:
        """Contexts (..., C) to log-probabilities (..., V), nats."""
        return self.probability(hidden.flatten(0, -2)).log().unflatten(0, hidden.shape[:-1])

    def cross_entropy_sum(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """As for every model, from the targets' own entries."""
        labelled = targets_N != NO_LABEL
        return -self.target_probability(hidden_ND[labelled], targets_N[labelled]).log().sum()

    def token_logprobs(self, hidden_ND: Tensor, targets_N: Tensor, temperature: float = 1.0) -> Tensor:
        """As for every model, but without a gradient: there is nothing that could learn."""
        return self.token_logprobs_and_entropy(hidden_ND, targets_N, temperature)[0]

    def token_logprobs_and_entropy(self, hidden_ND: Tensor, targets_N: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """As for every model, but without a gradient."""
        log_NV, asked_N = (self.logits(hidden_ND) / temperature).log_softmax(-1), targets_N != NO_LABEL
        chosen_N = log_NV.gather(1, targets_N.clamp(min=0)[:, None])[:, 0]
        return chosen_N * asked_N, torch.special.entr(log_NV.exp()).sum(-1) * asked_N

    def probability(self, context_NC: Tensor) -> Tensor:
        """Probability of every next token, (N, V): what the longest context gives its own successors, and so on downwards."""
        shares, rest_N = self._contexts(context_NC)
        found_NV = rest_N[:, None] * self.levels[0].probability
        for table, number_N, share_N in shares:
            row_E, entry_E = self._successors(table, number_N)
            added_E = share_N[row_E] * table.probability[entry_E]
            found_NV.index_put_((row_E, table.keys[entry_E] % self.config.vocab_size), added_E, accumulate=True)
        return found_NV

    def target_probability(self, context_NC: Tensor, target_N: Tensor) -> Tensor:
        """`probability` of one token each, (N,)."""
        shares, rest_N = self._contexts(context_NC)
        found_N = rest_N * self.levels[0].probability[target_N]
        for table, number_N, share_N in shares:
            entry_N = table.find(torch.where(number_N < 0, -1, number_N * self.config.vocab_size + target_N))
            found_N = found_N + share_N * Table.pick(table.probability, entry_N, 0.0)
        return found_N

    def _contexts(self, context_NC: Tensor) -> tuple[list[tuple[Table, Tensor, Tensor]], Tensor]:
        """For contexts of the most tokens down to one: the table of what follows, the context's number on its level (-1: never
        seen) and the share of all probability that its successors are given; then the share left to single tokens."""
        share_N = torch.ones(len(context_NC), dtype=self.levels[0].probability.dtype, device=context_NC.device)
        found = []
        for length in range(len(self.levels) - 1, 0, -1):
            number_N = self._number(context_NC[:, context_NC.size(1) - length :])
            found.append((self.levels[length], number_N, share_N))
            share_N = share_N * Table.pick(self.levels[length - 1].backoff, number_N, 1.0)  # never a context: all is left
        return found, share_N

    def _number(self, tokens_NK: Tensor) -> Tensor:
        """Numbers of sequences of tokens on their level, (N,); -1 for those never seen or with a token missing."""
        number_N = tokens_NK[:, 0]
        for step in range(1, tokens_NK.size(1)):
            token_N = tokens_NK[:, step]
            known = (number_N >= 0) & (token_N >= 0)
            number_N = self.levels[step].find(torch.where(known, number_N * self.config.vocab_size + token_N, -1))
        return number_N

    def _successors(self, table: Table, number_N: Tensor) -> tuple[Tensor, Tensor]:
        """Every entry of a table that goes on with the given contexts: which context (E,), which entry (E,)."""
        ends_2N = torch.stack([number_N, number_N + 1]) * self.config.vocab_size
        begin_N, end_N = torch.searchsorted(table.keys, ends_2N)
        amount_N = torch.where(number_N < 0, 0, end_N - begin_N)
        row_E = torch.repeat_interleave(torch.arange(len(number_N), device=number_N.device), amount_N)
        first_N = amount_N.cumsum(0) - amount_N
        return row_E, torch.arange(len(row_E), device=number_N.device) + (begin_N - first_N)[row_E]

    @property
    def vocab_size(self) -> int:
        return int(self.config.vocab_size)

    @property
    def device(self) -> torch.device:
        return self.levels[0].probability.device

    @property
    def activation_dtype(self) -> torch.dtype:
        return self.levels[0].probability.dtype

    @property
    def embedding(self) -> NoReturn:
        raise TypeError("an n-gram model has no vectors of tokens: it looks its context up in tables")

    @property
    def output_weight(self) -> NoReturn:
        raise TypeError("an n-gram model has no matrix of a head: it looks its context up in tables")

    def matmul_parameters(self) -> int:
        return 0

    def name_here(self, name: str) -> str | None:
        return name

    def new_state(self, batch: int, capacity: int) -> State:
        return State([RecurrentState(last=torch.full((batch, self.config.width), -1, device=self.device))])

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        """Counted from 300 tokens that like to come in runs."""
        config = cls.Config(**{"vocab_size": 31, "order": 4, "max_position_embeddings": 64, **changes})
        return cls.counted_from(config, count(_toy_text, config.order, config.vocab_size))


def _toy_text() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Documents of 2, 3, 95 and 200 tokens below 31."""
    steps = np.random.default_rng(0).choice([1, 2, 5, 11], 300, p=[0.5, 0.3, 0.1, 0.1])
    yield np.cumsum(steps) % 31, np.array([2, 3, 95, 200])
