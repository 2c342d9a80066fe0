"""GloVe (Pennington et al. 2014, EMNLP, equation 8): vectors whose products are the logarithms of how often words meet.

J = sum over i, j of f(X_ij) (w_i . v_j + b_i + c_j - log X_ij)^2, with f(x) = min(1, (x / x_max)^alpha)

X_ij adds 1 / distance for each time that word j stands within the window of word i. AdaGrad (Duchi et al. 2011) over
shuffled entries of X; a word's vector is w + v. V words, D dimensions, N entries, B of them in a batch.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from danlu.core import log
from danlu.data.tally import Tally
from danlu.data.word_vectors import WordVectors
from danlu.train.vectors import VECTORS
from danlu.train.vectors.base import Method, Texts, VectorSettings, Vocabulary

_BATCH = 4096
_BLOCK_WORDS = 1 << 20


class Pairs(nn.Module):
    """Vectors and biases of words as such (w, b) and as neighbours (v, c)."""

    def __init__(self, words: int, dimensions: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        for name, width in (("w", dimensions), ("v", dimensions), ("b", 1), ("c", 1)):
            first = (torch.rand(words, width, generator=generator) - 0.5) / dimensions
            self.add_module(name, nn.Embedding(words, width, sparse=True, _weight=first))

    def objective(self, i_B: Tensor, j_B: Tensor, x_B: Tensor, x_max: float, alpha: float) -> Tensor:
        """J over some entries of X."""
        guess_B = (self.w(i_B) * self.v(j_B)).sum(1) + self.b(i_B)[:, 0] + self.c(j_B)[:, 0]
        weight_B = (x_B / x_max).pow(alpha).clamp(max=1.0)
        total: Tensor = (weight_B * (guess_B - x_B.log()).square()).sum()
        return total


@VECTORS.register
class GloVe(Method):
    """Global vectors."""

    class Config(VectorSettings):
        name: Literal["glove"] = "glove"  # type: ignore[assignment]  # narrows
        window: int = Field(10, gt=0)
        """Words on each side that count as near, the less the farther."""
        epochs: int = Field(25, gt=0)
        """Passes over the table of meetings."""
        x_max: float = Field(10.0, gt=0)
        """Meetings above which an entry counts in full; the paper's 100 is for billions of words."""
        alpha: float = Field(0.75, ge=0)
        """How much less rarer meetings count."""
        learning_rate: float = Field(0.05, gt=0)
        """Rate of AdaGrad."""

    def learn(self, texts: Texts, vocabulary: Vocabulary, seed: int) -> tuple[WordVectors, dict[str, Any]]:
        i_N, j_N, x_N = (torch.from_numpy(column) for column in meetings(texts, vocabulary, self.config.window))
        model = Pairs(len(vocabulary.words), self.config.dimensions, seed)
        optimiser = torch.optim.Adagrad(model.parameters(), lr=self.config.learning_rate, initial_accumulator_value=1.0)
        order, losses = torch.Generator().manual_seed(seed), []
        unchecked = torch.sparse.check_sparse_tensor_invariants(enable=False)  # says so, else torch asks in a warning
        with unchecked, log.progress("learn vectors", total=self.config.epochs, unit="epochs") as bar:
            for _ in range(self.config.epochs):
                total = 0.0
                for batch_B in torch.randperm(len(x_N), generator=order).split(_BATCH):
                    loss = model.objective(i_N[batch_B], j_N[batch_B], x_N[batch_B], self.config.x_max, self.config.alpha)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    total += float(loss.detach())
                losses.append(total / max(len(x_N), 1))
                bar.advance(1)
        both = (model.w.weight + model.v.weight).detach().numpy()
        return WordVectors(vocabulary.words, vocabulary.counts, both), {"meetings": len(x_N), "losses": losses}


def meetings(texts: Texts, vocabulary: Vocabulary, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The table X as rows, columns and values, (N,) each, both ways round. Words without a vector are passed over."""
    rows, size = {word: row for row, word in enumerate(vocabulary.words)}, len(vocabulary.words)
    tally, waiting, held = Tally(), [], 0
    for text in texts():
        waiting.append(np.array([rows[word] for word in text if word in rows], np.int64))
        held += len(waiting[-1])
        if held >= _BLOCK_WORDS:
            _meet(tally, waiting, window, size)
            waiting, held = [], 0
    _meet(tally, waiting, window, size)
    keys, values = tally.result()
    return keys // size, keys % size, values.astype(np.float32)


def _meet(tally: Tally, texts: list[np.ndarray], window: int, size: int) -> None:
    """Count within each text of a block."""
    line = np.concatenate([*texts, np.empty(0, np.int64)])
    number = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    for distance in range(1, window + 1):
        together = np.flatnonzero(number[:-distance] == number[distance:])
        first, second = line[together], line[together + distance]
        for i, j in ((first, second), (second, first)):
            tally.add(i * size + j, np.full(len(i), 1.0 / distance))
