"""Beam search: the likeliest answers as a whole rather than the likeliest token at each step (as transformers' `num_beams`).

    beam_search(model, ids, beams, max_tokens, length_penalty=1.0, early_stopping=False, source=None) -> list[Beam]
        model            an opened Model (engine/model.py), of any family that writes
        ids              the prompt; for encoder-decoders what begins the answer, and `source` what the encoder reads
        early_stopping   False: stop when the best live beam is no longer better than the worst finished one at its length;
                         True: stop when `beams` answers have finished; "never": only when no beam can get better at all
    write_beams(model, text, beams, max_tokens=None, ...) -> list[Beam]      the same from text; Beam.text(tokenizer)
    best_of(logprobs, count) -> list[int]                                    answers by mean log-probability, best first

Nothing is drawn, so there is no temperature and no seed. B live beams, V vocabulary. It runs in the caller's thread through
the torch model, not in the engine's step; the caller holds the model's lock where it shares the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from danlu.core.errors import BadInput
from danlu.engine.generate import answer_room
from danlu.engine.model import Model
from danlu.engine.source import source_ids
from danlu.models.base import Seq2SeqLM
from danlu.tokenizer.tokenizer import Tokenizer

EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True)
class Beam:
    """A finished answer."""

    ids: tuple[int, ...]
    """Its tokens, the one that ended it included."""
    score: float
    """Sum of the natural logarithms of its tokens' probabilities, over length ** length_penalty."""
    ended: bool
    """Whether a token of the model's ended it; False: max_tokens did."""

    def text(self, tokenizer: Tokenizer) -> str:
        """The answer without the token that ended it."""
        return tokenizer.decode(self.ids[:-1] if self.ended else self.ids)


@torch.inference_mode()
def beam_search(model: Model, ids: Sequence[int], beams: int, max_tokens: int, length_penalty: float = 1.0,
                early_stopping: EarlyStopping = False, source: Sequence[int] | None = None) -> list[Beam]:  # fmt: skip
    """The `beams` best answers found, best first. Raises BadInput, PromptTooLong."""
    model.check_writes()
    answer_room(len(ids), max_tokens, model.context)
    known = model.tokenizer.vocab_size
    spare = max(2, 1 + len(model.ends))  # so many for each beam that enough are left when the best of them end
    if not 1 <= beams <= known // spare:
        raise BadInput(f"{beams} beams: give 1 to {known // spare} for a vocabulary of {known} tokens.")
    reader = _Reader(model, ids, len(ids) + max_tokens, source)
    live, scores_B, done = [()], torch.zeros(1), _Finished(beams)
    for length in range(1, max_tokens + 1):
        total_BV = scores_B[:, None] + reader.logits_BV[:, :known].log_softmax(-1)
        best_C, places_C = total_BV.flatten().topk(spare * beams)
        found = [((*live[place // known], place % known), place // known) for place in places_C.tolist()]
        stops = [answer[-1] in model.ends or length == max_tokens for answer, _ in found]
        for score, (answer, _), stop in list(zip(best_C, found, stops))[:beams]:
            if stop:
                done.add(Beam(answer, float(score / length**length_penalty), answer[-1] in model.ends))
        going = [at for at, stop in enumerate(stops) if not stop][:beams]
        if not going or (early_stopping is True and done.full):
            break
        far = max_tokens if early_stopping == "never" and length_penalty > 0 else length
        if done.full and float(best_C[going[0]] / far**length_penalty) <= done.worst:
            break
        live, scores_B = [found[at][0] for at in going], best_C[going]
        reader.go_on([found[at][1] for at in going], [answer[-1] for answer in live])
    return done.beams


def write_beams(model: Model, text: str, beams: int, max_tokens: int | None = None, length_penalty: float = 1.0,
                early_stopping: EarlyStopping = False) -> list[Beam]:  # fmt: skip
    """The best answers to a text. Raises BadInput, PromptTooLong."""
    model.check_writes()
    ids, source = model.encode(text), None
    if isinstance(model.model, Seq2SeqLM):
        start = model.model.config.decoder_start_token_id
        ids, source = [model.tokenizer.start_id if start is None else start], source_ids(model.tokenizer, text, model.context)
    room = answer_room(len(ids), max_tokens, model.context)
    return beam_search(model, ids, beams, room, length_penalty, early_stopping, source)


def best_of(logprobs: Sequence[Sequence[float]], count: int) -> list[int]:
    """Which of several drawn answers to keep: by the mean of their tokens' log-probabilities, best first; of equals the earlier.

    >>> best_of([[-1.0, -3.0], [-0.5], [-1.9, -2.1, -1.0]], 2)
    [1, 2]
    """
    means = [sum(values) / len(values) if values else float("-inf") for values in logprobs]
    return sorted(range(len(means)), key=lambda number: -means[number])[:count]


class _Finished:
    """The best answers that have ended, best first; of equals the earlier."""

    def __init__(self, most: int):
        self.most, self.beams = most, list[Beam]()

    def add(self, beam: Beam) -> None:
        self.beams = sorted([*self.beams, beam], key=lambda beam: -beam.score)[: self.most]

    @property
    def full(self) -> bool:
        return len(self.beams) == self.most

    @property
    def worst(self) -> float:
        return self.beams[-1].score


class _Reader:
    """The model with a state of one row for each live beam."""

    def __init__(self, model: Model, ids: Sequence[int], capacity: int, source: Sequence[int] | None):
        self._model = model.model
        self._state = self._model.new_state(1, capacity)
        more: dict[str, Tensor] = {}
        ids_1T = torch.tensor([list(ids)], device=self._model.device)
        if isinstance(self._model, Seq2SeqLM):
            if source is None:
                raise BadInput(f"{model.path} is an encoder-decoder: give what its encoder reads as `source`.")
            more["source_BSD"] = self._model.encode(torch.tensor([list(source)], device=self._model.device))
        if model.both_ways:
            more["prefix_BT"] = torch.ones_like(ids_1T, dtype=torch.bool)
        self.logits_BV = self._read(ids_1T, **more)

    def go_on(self, parents: Sequence[int], tokens: Sequence[int]) -> None:
        """Continue beam `parents[b]` with `tokens[b]`, for each new beam b."""
        self._state.reorder(torch.tensor(list(parents), device=self._model.device))
        self.logits_BV = self._read(torch.tensor(list(tokens), device=self._model.device)[:, None])

    def _read(self, ids_BT: Tensor, **more: Tensor) -> Tensor:
        hidden_BTD = self._model.hidden(ids_BT, state=self._state, **more)
        return self._model.logits(hidden_BTD[:, -1]).float().cpu()
