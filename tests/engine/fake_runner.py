"""A runner whose logits are a function of every token that it finds in its own blocks: a wrong block changes the answer."""

import numpy as np

from danlu.engine.work import RowFault

VOCAB = 29


def next_logits(ids):
    """Logits after a text, any function of all of it."""
    state = np.uint64(1469598103934665603)
    with np.errstate(over="ignore"):
        for token in ids:
            state = (state ^ np.uint64(token)) * np.uint64(1099511628211)
    return np.random.default_rng(int(state)).standard_normal(VOCAB).astype(np.float32) * 3


def written(ids, room, pick=lambda logits, step: int(logits.argmax()), ends=()):
    """What one sequence alone would say."""
    ids = list(ids)
    for step in range(room):
        ids.append(pick(next_logits(ids), step))
        if ids[-1] in ends:
            break
    return ids


class FakeRunner:
    """Paged, exact, slow; `poison` is a token that it cannot compute."""

    vocab_size, context, whole_prompts, kernel = VOCAB, 64, False, "fake, exact"

    def __init__(self, blocks=24, block_tokens=4, poison=None):
        self.blocks, self.block_tokens, self.poison = blocks, block_tokens, poison
        self.memory = np.full((blocks, block_tokens), -1)
        self.steps, self.most = [], 0

    def run(self, pieces):
        self.steps.append([len(piece.ids) for piece in pieces])
        for piece in pieces:
            if self.poison in piece.ids:
                raise RowFault(piece.row, "poison") if self.poison == 1 else ValueError("a plain bug")
        return [self._one(piece) for piece in pieces]

    def _one(self, piece):
        places = np.arange(piece.start, piece.start + len(piece.ids))
        self.memory[piece.blocks[places // self.block_tokens], places % self.block_tokens] = piece.ids
        end = piece.start + len(piece.ids)
        places = np.arange(end)
        held = self.memory[piece.blocks[places // self.block_tokens], places % self.block_tokens]
        rows = [next_logits(held[: end - piece.want + 1 + at]) for at in range(piece.want)]
        return np.stack(rows) if rows else np.empty((0, VOCAB), np.float32)

    def rewind(self, row, length):
        return True

    def forget(self, row):
        pass
