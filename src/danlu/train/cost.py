"""What a training step costs: counts of its work from a model's sizes, and seconds and bytes from this machine's pace.

Counts follow the Qwen3 shape (models/qwen3.py); other families differ by constants that a timed step corrects (speed.py).
"""

from dataclasses import dataclass

from danlu.train.plan import Dtype, Pace


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: width, inner width of the feed-forward layer, layers, heads, vocabulary; tied or not."""

    width: int
    inner: int
    layers: int
    heads: int
    vocab: int
    tied: bool = True
    stored: float = 1.0
    """Feed-forward weights kept for each one that a token meets: a mixture of experts keeps more than it uses."""

    @property
    def matrices(self) -> int:
        """Weights of the hidden matrices that a token meets."""
        return self.layers * (4 * self.width**2 + 3 * self.width * self.inner)

    @property
    def idle(self) -> int:
        """Weights of the experts that a token does not take."""
        return int(3 * self.layers * self.width * self.inner * (self.stored - 1.0))

    @property
    def parameters(self) -> int:
        """All weights, a tied head counted once."""
        return self.matrices + self.idle + self.vocab * self.width * (1 if self.tied else 2) + (2 * self.layers + 1) * self.width

    def flops_per_token(self, row_tokens: int) -> float:
        """Arithmetic of one training token: 6 a weight in a product, and attention as the full square.

        Source: PaLM (arXiv:2204.02311), appendix B.
        """
        return 6.0 * (self.matrices + self.vocab * self.width) + 12.0 * self.layers * self.width * row_tokens

    def elements_per_token(self) -> float:
        """Activation elements touched outside products and attention: norms, rotations, gates, softmax over words."""
        return self.layers * (38 * self.width + 4 * self.inner) + 4 * self.vocab + 12 * self.width

    def scores_per_token(self, row_tokens: int) -> float:
        """Scores of attention, as the full square: each costs an exponential forward and another backward."""
        return float(self.layers * self.heads * row_tokens)

    def kept_elements_per_token(self) -> float:
        """Activation elements that wait for the backward pass."""
        return self.layers * (14 * self.width + 4 * self.inner) + 4 * self.width

    def update_flops(self, iterations: int) -> float:
        """Arithmetic of Muon's iterations over the hidden matrices, once a step."""
        square = 6.0 * self.width**3
        gated = 4.0 * self.width**2 * max(self.width, self.inner) + 2.0 * self.width**3
        return iterations * self.layers * (4 * square + 3 * gated)


def step_seconds(shape: Shape, row_tokens: int, rows: int, micro_rows: int, pace: Pace, iterations: int = 0) -> float:
    """Predicted seconds of one step of `rows` rows in micro-batches of `micro_rows`, optimiser included."""
    tokens = rows * row_tokens
    return (
        pace.layer_s * (shape.layers + 1) * -(-rows // micro_rows)
        + pace.flop_s * tokens * shape.flops_per_token(row_tokens)
        + pace.element_s * tokens * shape.elements_per_token()
        + pace.score_s * tokens * shape.scores_per_token(row_tokens)
        + pace.update_s * shape.update_flops(iterations)
        + pace.parameter_s * shape.parameters
    )


def memory_bytes(shape: Shape, row_tokens: int, micro_rows: int, pace: Pace, dtype: Dtype) -> int:
    """Predicted peak of the process: weights, gradients, two moments, an update's copies, activations, a block of logits."""
    tokens = micro_rows * row_tokens
    kept = tokens * shape.kept_elements_per_token() * pace.activation_bytes
    logits = min(tokens, 512) * shape.vocab * 4 * 3
    return int(pace.resident_bytes + 4 * 5.5 * shape.parameters + kept + logits)
