"""An adapter that has learned something, for tests: its first values moved by a little noise of a seed."""

import torch

from danlu.models.adapters import ADAPTERS
from danlu.models.adapters.base import attach, trainable
from danlu.models.base import Seq2SeqLM


def moved(model, kind="lora", spread=0.05, new_rows=(), codes=None, **settings):
    """The model with an adapter on it, and modules in full, that change what it computes."""
    config = ADAPTERS[kind].Config(name=kind, **settings)
    attach(model, config, seed=1, codes=codes, new_rows=new_rows)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in trainable(model):
            parameter += spread * torch.randn(parameter.shape, generator=generator)
    return model


def logits(model, ids):
    """Of any family; an encoder reads the ids from right to left."""
    return model(ids, source_BS=ids.flip(1)) if isinstance(model, Seq2SeqLM) else model(ids)


def ids(rows=2, length=7):
    return torch.arange(rows * length).view(rows, length) * 5 % 31


def gap(found, wanted):
    """Largest difference relative to the largest value."""
    return ((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)).item()
