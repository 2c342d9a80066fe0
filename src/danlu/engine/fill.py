"""Filling gaps: a masked model names the tokens that stand where a text has its mask token. G gaps, T tokens, V vocabulary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from danlu.core.errors import BadInput, PromptTooLong
from danlu.models.base import MaskedLM
from danlu.tokenizer.frame import frame
from danlu.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Choice:
    """A token for a gap, its text and its probability."""

    token: int
    text: str
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text without gaps, and what was considered for each."""

    text: str
    """Filled one gap at a time, the surest first; each sees those filled before it."""
    choices: list[list[Choice]]
    """For each gap, the likeliest tokens while all gaps are open, in falling order."""


@torch.inference_mode()
def fill(model: MaskedLM, tokenizer: Tokenizer, text: str, top_k: int = 5) -> Filled:
    """Fill every gap of a text. Special tokens are never chosen; their share of the probability is not given to others.

    Raises BadInput for a text without gaps, a tokenizer without a mask token or a top_k below 1; PromptTooLong.
    """
    if top_k < 1:
        raise BadInput(f"top_k {top_k}: ask for at least one choice a gap.")
    ids_T = encode(model, tokenizer, text)
    gaps = (ids_T == tokenizer.mask_id).nonzero().flatten()
    considered_GV = chances(model, tokenizer, ids_T)[gaps]
    choices = [_choices(tokenizer, row_V, min(top_k, len(row_V))) for row_V in considered_GV]
    while len(gaps):
        chance_GV = chances(model, tokenizer, ids_T)[gaps]
        surest = int(chance_GV.amax(1).argmax())
        ids_T[gaps[surest]] = chance_GV[surest].argmax()
        gaps = torch.cat([gaps[:surest], gaps[surest + 1 :]])
    before, after = around(tokenizer)
    return Filled(tokenizer.decode(ids_T.tolist()[len(before) : len(ids_T) - len(after)]), choices)


def encode(model: MaskedLM, tokenizer: Tokenizer, text: str) -> Tensor:
    """Ids of a text with gaps (T,), between the tokens that stand around it; other special tokens stay text."""
    mask = tokenizer.mask_token
    if mask is None or tokenizer.mask_id is None:
        raise BadInput(
            "this model's tokenizer has no mask token, so no text can have gaps. Use the tokenizer it was trained with."
        )
    if mask not in text:
        raise BadInput(f"the text has no gap. Write {mask} where a token is missing: 'The capital is {mask}.'")
    before, after = around(tokenizer)
    ids = [*before, *tokenizer.encode(text, allow_special=(mask,)), *after]
    if len(ids) > model.config.context:
        raise PromptTooLong(
            f"the text has {len(ids)} tokens, and the model's context is {model.config.context}. Shorten the text."
        )
    return torch.tensor(ids, device=model.device)


def chances(model: MaskedLM, tokenizer: Tokenizer, ids_T: Tensor) -> Tensor:
    """Probability of every ordinary token at every place, (T, V); special tokens, and table rows without a token, have none."""
    chance_TV = model(ids_T[None])[0].float().softmax(-1)[:, : tokenizer.vocab_size]
    chance_TV[:, list(tokenizer.special_tokens.values())] = 0.0
    return chance_TV


def around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Tokens before and after a text: as its tokenizer.json frames one, else the token that begins a document, as in training."""
    if tokenizer.parts.get("post_processor") is not None:
        before, after = frame(tokenizer)
        return list(before), list(after)
    return ([] if tokenizer.bos_id is None else [tokenizer.bos_id]), []


def _choices(tokenizer: Tokenizer, chance_V: Tensor, top_k: int) -> list[Choice]:
    values, tokens = (part.tolist() for part in chance_V.topk(top_k))
    return [Choice(token, tokenizer.decode([token]), value) for value, token in zip(values, tokens, strict=True)]
