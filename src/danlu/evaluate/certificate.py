"""The receipt of a change of form: what a model computed before and after, on the same text.

The probe is our own text in English, Chinese and code, so that a certificate can be repeated anywhere.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danlu.core.labels import NO_LABEL
from danlu.core.machine import version
from danlu.engine.model import Model
from danlu.models.base import MaskedLM, Seq2SeqLM
from danlu.models.weights import read_config

PROBE = '''A furnace keeps what the fire cannot take. On the first day the ore goes in, grey and heavy; on the third it glows;
on the ninth the master opens the door, looks once, and closes it again. "Not yet," he says, and writes 9/49 on the wall.
丹炉之中，火候为先。投石入炉，三日见红，九日启门，师父看一眼，又把门关上，只说：“还不到时候。”
def temper(ore, days=49):
    """Heat `ore` and return what is left."""
    for day in range(1, days + 1):
        ore = [grain for grain in ore if grain.survives(day)]
    return ore
'''
"""Text on which models are compared."""
_GAP = 6


@dataclass(frozen=True)
class Certificate:
    """Agreement of two computations of the logits on the probe's first tokens."""

    tokens: int
    largest_difference: float
    """Largest absolute difference of a logit."""
    relative_difference: float
    """That, over the largest absolute logit."""
    top1_agreement: float
    """Share of positions where both hold the same token the likeliest."""
    divergence: float
    """Mean Kullback-Leibler divergence of the second from the first, nats a token."""
    perplexity_before: float
    perplexity_after: float

    def figures(self) -> dict[str, Any]:
        return asdict(self)


def probe(model: Model) -> tuple[list[int], list[int]]:
    """Ids of the probe, as many as one window of the model holds, and the token that each place asks for (-100: none).

    The next one; of a masked model, those that were hidden here, every sixth.
    """
    ids = model.encode(PROBE)[: model.context]
    mask = model.tokenizer.mask_id
    if not isinstance(model.model, MaskedLM) or mask is None:
        return ids, [*ids[1:], NO_LABEL]
    hidden = [at % _GAP == _GAP - 1 for at in range(len(ids))]
    return (
        [mask if hide else token for token, hide in zip(ids, hidden, strict=True)],
        [token if hide else NO_LABEL for token, hide in zip(ids, hidden, strict=True)],
    )


def computed(model: Model, ids: list[int]) -> Tensor:
    """Logits (T, V) of the probe's ids; an encoder-decoder has them for its source too."""
    return model.logits([ids], [ids] if isinstance(model.model, Seq2SeqLM) else None)[0]


def certify(before_TV: Tensor, after_TV: Tensor, asked: list[int]) -> Certificate:
    """Compare logits at each of T places; `asked` (T,) is what they should name, -100 where nothing is asked."""
    first, second = before_TV.double(), after_TV.double()
    difference = (first - second).abs().max().item()
    log_first, log_second = first.log_softmax(-1), second.log_softmax(-1)
    targets, largest = torch.tensor(asked), first.abs().max().clamp(min=1e-30).item()

    def perplexity(log_TV: Tensor) -> float:
        nats = F.nll_loss(log_TV, targets, ignore_index=NO_LABEL)  # not a number where nothing is asked
        return math.exp(min(nats.item(), 700.0))

    return Certificate(
        tokens=len(asked), largest_difference=difference, relative_difference=difference / largest,
        top1_agreement=(first.argmax(-1) == second.argmax(-1)).double().mean().item(),
        divergence=(log_first.exp() * (log_first - log_second)).sum(-1).mean().item(),
        perplexity_before=perplexity(log_first), perplexity_after=perplexity(log_second),
    )  # fmt: skip


def with_transformers(folder: Path, ids: list[int]) -> tuple[Tensor, list[int]] | None:
    """Logits (T, V) of `ids`, and the probe's own ids, as transformers computes them from a folder; None where it cannot."""
    if version("transformers") is None:
        return None
    import transformers

    name = read_config(folder)["architectures"][0]
    if not hasattr(transformers, name):
        return None
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = getattr(transformers, name).from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    given = torch.tensor([ids])
    both = {"decoder_input_ids": given} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        logits = model(given, **both).logits[0].float()
    return logits, tokenizer(PROBE, add_special_tokens=False)["input_ids"]
