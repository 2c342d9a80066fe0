"""What the budget dial reads and what it decides; plain records that travel as JSON and import no torch."""

from typing import Any, Literal

from pydantic import Field

from danlu.core.settings import Settings
from danlu.core.units import Budget

Dtype = Literal["float32", "bfloat16"]


class Pace(Settings):
    """How fast this machine trains: what `speed.measure` found. One coefficient for each kind of work in a step."""

    threads: int = Field(gt=0)
    """Threads that were fastest."""
    matmul_flops: dict[Dtype, float]
    """Peak of a large matrix product, floating-point operations a second."""
    bandwidth: float = Field(gt=0)
    """Bytes a second that memory streams."""
    dtype: Dtype = "float32"
    """Type in which training steps were fastest."""
    layer_s: float = Field(ge=0)
    """Fixed seconds of one layer in one micro-batch: the price of starting its operations."""
    flop_s: float = Field(gt=0)
    """Seconds of one floating-point operation in a model's products."""
    element_s: float = Field(ge=0)
    """Seconds of one activation element outside attention: norms, rotations, gates, softmax over words."""
    score_s: float = Field(0.0, ge=0)
    """Seconds of one score of attention, forward and backward, beyond its products."""
    update_s: float = Field(0.0, ge=0)
    """Seconds of one operation of the optimiser's matrix iterations."""
    parameter_s: float = Field(0.0, ge=0)
    """Seconds to update one parameter."""
    activation_bytes: float = Field(4.0, gt=0)
    """Bytes of one activation element kept for the backward pass."""
    resident_bytes: int = Field(0, ge=0)
    """Memory that the process holds before a model exists."""
    memory_bytes: int = Field(gt=0)
    """Memory this process may use."""
    seconds: float = Field(0.0, ge=0)
    """Time that measuring took."""


class Corpus(Settings):
    """The text to train on, in the units that do not depend on a tokenizer, and how vocabularies shorten it."""

    train_bytes: int = Field(gt=0)
    """Bytes of training text."""
    documents: int = Field(gt=0)
    """Training documents."""
    bytes_per_token: dict[int, float]
    """Vocabulary size to mean bytes of a token; one entry where the tokenizer is given."""

    @property
    def vocabularies(self) -> list[int]:
        """Sizes on offer, ascending."""
        return sorted(self.bytes_per_token)


class Fixed(Settings):
    """What the user decided; null leaves it to the dial."""

    model: dict[str, Any] = Field(default_factory=dict)
    """Settings of the model family that were given, `name` among them."""
    vocab_size: int | None = Field(None, gt=0)
    """Tokens of the vocabulary."""
    row_tokens: int | None = Field(None, gt=0)
    """Tokens of a row."""
    rows: int | None = Field(None, gt=0)
    """Rows of a step."""
    micro_rows: int | None = Field(None, gt=0)
    """Most rows at once."""
    steps: int | None = Field(None, gt=0)
    """Steps of the run."""
    optimiser: dict[str, Any] = Field(default_factory=dict)
    """Settings of the optimiser that were given, `name` among them."""
    schedule: dict[str, Any] = Field(default_factory=dict)
    """Settings of the schedule that were given, `name` among them."""
    dtype: Dtype | None = None
    """Type of the activations."""
    threads: int | None = Field(None, gt=0)
    """Threads."""
    compile: bool | None = None
    """Compile the model before training."""
    processes: int = Field(1, gt=0)
    """Processes that share the work."""
    forgets: bool = True
    """Whether tables forget where the text comes again: not those that a model brings, nor where each pass hides other tokens."""


class Plan(Settings):
    """A whole run, decided before its first step."""

    budget: Budget
    """What may be spent."""
    model: dict[str, Any]
    """Settings of the model family, `name` included."""
    vocab_size: int
    """Tokens of the vocabulary."""
    row_tokens: int
    """Tokens of a row."""
    rows: int
    """Rows of a step, over all processes."""
    micro_rows: int
    """Most rows at once in one process."""
    steps: int
    """Steps of the run; a budget in seconds corrects it while running."""
    optimiser: dict[str, Any]
    """Settings of the optimiser, peak rates included."""
    schedule: dict[str, Any]
    """Settings of the schedule."""
    dtype: Dtype
    """Type of the activations."""
    threads: int
    """Threads of a process."""
    compile: bool
    """Whether to compile."""
    parameters: int
    """Weights, a tied head counted once."""
    epochs: float
    """How often the text is read."""
    step_s: float
    """Predicted seconds of a step."""
    seconds: float
    """Predicted seconds of all steps."""
    tokens: int
    """Tokens trained on."""
    flops: float
    """Arithmetic of all steps."""
    memory_bytes: int
    """Predicted peak memory of a process."""
    bits_per_byte: float
    """Predicted held-out bits per byte, on text of ordinary difficulty: good for comparing plans, not for promising."""
    reasons: list[str]
    """Why, one line a decision."""

    @property
    def micro_batches(self) -> int:
        """Micro-batches of a step in one process (gradient accumulation)."""
        return -(-self.rows // self.micro_rows)


def given(settings: Settings | None) -> dict[str, Any]:
    """Of a chosen thing's settings, those that were said rather than defaulted, and always its name.

    >>> class Named(Settings):
    ...     name: str = "x"
    ...     a: int = 1
    ...     b: int = 2
    >>> given(Named(b=3))
    {'name': 'x', 'b': 3}
    """
    if settings is None:
        return {}
    said = settings.model_dump(mode="json", include=settings.model_fields_set)
    return {"name": getattr(settings, "name", None), **said}
