"""How far a family is from transformers: relative differences of logits, loss, every gradient, decoding and folders.

A difference is the largest absolute difference over the largest absolute value of the reference; B rows, T tokens.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from danlu.models.base import CausalLM, Seq2SeqLM
from danlu.models.weights import load_model, save_model
from tests.models.reference import ours, theirs, tokens

TINY = 1e-6
"""A gradient whose largest value is below this share of the largest gradient is nothing but rounding."""


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference relative to the largest value."""
    return ((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)).item()


def measure(family: str, changes: dict[str, Any], folder: Path) -> dict[str, float]:
    """Every difference of one case, by name; `gradients` is the worst parameter's."""
    mine = ours(family, changes)
    first, second = folder / "ours", folder / "theirs"
    for path in (first, second):
        path.mkdir(parents=True)
    save_model(mine, first)
    reference = theirs(family, first)
    reference.save_pretrained(second)
    ids, targets = tokens(), tokens(seed=11)
    filling = mine.config.pad_token_id
    ids[ids == filling] = 30 if filling != 30 else 29  # transformers gives the filling token's vector no gradient
    targets[:, :2] = -100
    wanted = _their_logits(reference, mine, ids)
    loss = _our_loss(mine, ids, targets)
    their_loss = F.cross_entropy(wanted.flatten(0, 1), targets.flatten(), reduction="sum")
    loss.backward()
    their_loss.backward()
    with torch.no_grad():
        found = {
            "logits": difference(_our_logits(mine, ids), wanted),
            "loss": difference(loss, their_loss),
            "gradients": max(_gradients(mine, reference).values()),
            "folder ours to theirs": difference(_our_logits(load_model(first), ids), wanted),
            "folder theirs to ours": difference(_our_logits(load_model(second), ids), wanted),
        }
        if isinstance(mine, CausalLM | Seq2SeqLM):
            found["cached decoding"] = difference(_decoded(mine, ids), wanted)
    return found


def _source() -> torch.Tensor:
    return tokens(length=9, seed=3)


def _our_logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    return model(ids, source_BS=_source()) if isinstance(model, Seq2SeqLM) else model(ids)


def _their_logits(reference: Any, model: Any, ids: torch.Tensor) -> torch.Tensor:
    if isinstance(model, Seq2SeqLM):
        return reference(input_ids=_source(), decoder_input_ids=ids, use_cache=False).logits
    if isinstance(model, CausalLM):
        return reference(ids, use_cache=False).logits  # some write into their memory, and then cannot go backwards
    return reference(ids).logits


def _our_loss(model: Any, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    hidden = model.hidden(ids, source_BSD=model.encode(_source())) if isinstance(model, Seq2SeqLM) else model.hidden(ids)
    return model.cross_entropy_sum(hidden.flatten(0, 1), targets.flatten())


def _decoded(model: Any, ids: torch.Tensor) -> torch.Tensor:
    state = model.new_state(len(ids), ids.size(1))
    more = {"source_BSD": model.encode(_source())} if isinstance(model, Seq2SeqLM) else {}
    return torch.cat([model.logits(model.hidden(part, state=state, **more)) for part in ids.split(1, dim=1)], dim=1)


def _gradients(mine: Any, reference: Any) -> dict[str, float]:
    """Difference of each parameter's gradient, by our name; parameters that nothing moves are compared as zeros."""
    theirs_by_name = {mine.name_here(name): parameter.grad for name, parameter in reference.named_parameters()}
    largest = max(grad.abs().max().item() for grad in theirs_by_name.values() if grad is not None)
    found = {}
    for name, parameter in mine.named_parameters():
        wanted = theirs_by_name[name]
        wanted = torch.zeros_like(parameter) if wanted is None else wanted
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if wanted.abs().max() < TINY * largest:
            assert grad.abs().max() < 10 * TINY * largest, name
        else:
            found[name] = difference(grad, wanted)
    return found
