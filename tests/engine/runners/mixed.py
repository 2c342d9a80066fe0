"""Steps of mixed pieces over several sequences, as an engine would send them, for the tests of all runners."""

from pathlib import Path

import numpy as np
import torch

from danlu.engine.model import Model
from danlu.engine.work import Piece
from danlu.models import MODELS
from danlu.models.base import CausalLM

CAUSAL = [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM)]
CUTS = {7: [5, 1, 1, 4, 1, 3], 2: [1, 1, 1, 8, 1, 1], 30: [19, 1, 1, 1, 1], 4: [3, 3, 3, 1, 1, 1]}
"""For each row the tokens of its piece in each step."""


def opened(family, **changes):
    """A tiny model with every parameter away from zero, one and its neighbours, opened without a tokenizer."""
    model = MODELS[family].tiny(**changes).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return Model(model, None, Path("tiny"))


def texts(seed=0):
    """Ids of each row."""
    generator = np.random.default_rng(seed)
    return {row: generator.integers(0, 31, sum(cuts)) for row, cuts in CUTS.items()}


def tables(block_tokens, blocks, seed=0):
    """Blocks of each row, scattered over the pool."""
    if block_tokens == 0:
        return {row: np.empty(0, np.int32) for row in CUTS}
    order = np.random.default_rng(seed).permutation(blocks).astype(np.int32)
    sizes = [-(-sum(cuts) // block_tokens) for cuts in CUTS.values()]
    ends = np.cumsum(sizes)
    return {row: order[end - size : end] for row, size, end in zip(CUTS, sizes, ends, strict=True)}


def play(runner, ids, blocks, *, wants=None, adapters=None, rows=tuple(CUTS)):
    """All steps: for each row the logits of its tokens; `wants` cuts them to the last ones of each piece."""
    adapters = adapters or {}
    found, at = {row: [] for row in rows}, dict.fromkeys(rows, 0)
    for step in range(max(len(CUTS[row]) for row in rows)):
        pieces = []
        for row in rows[step % len(rows) :] + rows[: step % len(rows)]:
            if step < len(CUTS[row]):
                size, start = CUTS[row][step], at[row]
                own = blocks[row][: -(-(start + size) // runner.block_tokens)] if runner.block_tokens else blocks[row]
                want = size if wants is None else min(wants, size)
                pieces.append(Piece(row, ids[row][start : start + size], start, own, want, adapters.get(row)))
                at[row] += size
        for piece, logits in zip(pieces, runner.run(pieces), strict=True):
            assert logits.dtype == np.float32 and logits.shape == (piece.want, runner.vocab_size)
            found[piece.row].append(logits)
    return {row: np.concatenate(parts) for row, parts in found.items()}


def whole(model, ids):
    """Logits of each row by itself, all tokens at once: the definition."""
    with torch.inference_mode():
        return {row: model.model(torch.from_numpy(text)[None])[0].float().numpy() for row, text in ids.items()}


def close(found, wanted, tolerance=1e-4):
    assert found.keys() == wanted.keys()
    for row in found:
        np.testing.assert_allclose(found[row], wanted[row], rtol=tolerance, atol=tolerance)
