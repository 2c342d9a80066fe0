"""What every language model offers, whatever its family: tokens in, hidden vectors or logits out.

Three kinds: `CausalLM` reads from left to right and remembers, `MaskedLM` sees both ways, `Seq2SeqLM` reads one text and
writes another. B rows, T tokens, S tokens of a source, D width, V vocabulary.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danlu.core.labels import NO_LABEL
from danlu.models.config import ModelConfig
from danlu.nn.init import initialise
from danlu.nn.logprob import token_logprobs, token_logprobs_and_entropy
from danlu.nn.loss import linear_cross_entropy_sum
from danlu.nn.small_frozen import SmallFrozen
from danlu.nn.state import State


class LanguageModel(nn.Module):
    """Base of the families. Attribute names are tensor names on disk; a tied head has no tensor of its own.

    A subclass has an inner `Config`, an `embedding` and writes `hidden`; its constructor ends with `self.initialise(seed)`.
    """

    Config: ClassVar[type[ModelConfig]]
    counted: ClassVar[bool] = False
    """Whether the family is counted from text in one pass (train/count.py) and has nothing that gradients could move."""
    writers: ClassVar[tuple[str, ...]] = ("o_proj.weight", "down_proj.weight", "c_proj.weight")
    """How the names of those matrices end that write to the residual stream: they start smaller."""
    long_rows: ClassVar[bool] = False
    """Whether texts end to end in one row cost no more than in rows of their own: nothing grows with a row but its documents."""
    small_product: Callable[[Tensor], Tensor] | None = None
    """The product with the output weight in few bits, where something serves it so."""
    new_rows: Callable[[Tensor], Tensor] | None = None
    """The output weight with rows that learn apart, where an adapter has such (models/adapters/rows.py)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config: Any = config
        self._compute_dtype: torch.dtype | None = None

    @property
    @abstractmethod
    def embedding(self) -> nn.Parameter:
        """The vectors of the tokens, (V, D)."""

    @property
    def output_weight(self) -> Tensor:
        """The matrix whose product with a hidden vector is the logits, (V, D)."""
        head = getattr(self, "lm_head", None)
        weight: Tensor = self.embedding if head is None else head.weight
        return weight if self.new_rows is None else self.new_rows(weight)

    @property
    def vocab_size(self) -> int:
        """Tokens that it gives logits for."""
        return self.output_weight.size(0)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.output_weight.device

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden vectors (..., D) to logits (..., V)."""
        if self.small_product is not None:
            return self.small_product(hidden)
        return F.linear(hidden, self.output_weight.to(hidden.dtype))

    def to_head(self, hidden_ND: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """What the output weight is multiplied with, and the `cap` and `bias_V` of the product, as in nn/loss.py."""
        return hidden_ND, {}

    def cross_entropy_sum(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Sum over labelled tokens of the negative log-likelihood, in nats; a target of -100 asks for nothing."""
        x_ND, how = self.to_head(hidden_ND)
        return linear_cross_entropy_sum(x_ND, self.output_weight, targets_N, **how)

    def token_logprobs(self, hidden_ND: Tensor, targets_N: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probability of each target, (N,) float32 in nats, with a gradient; zero at a target of -100."""
        x_ND, how = self.to_head(hidden_ND)
        return token_logprobs(x_ND, self.output_weight, targets_N, temperature=temperature, **how)

    def token_logprobs_and_entropy(self, hidden_ND: Tensor, targets_N: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """The same, and beside it the entropy of the distribution at each target, without a gradient."""
        x_ND, how = self.to_head(hidden_ND)
        return token_logprobs_and_entropy(x_ND, self.output_weight, targets_N, temperature=temperature, **how)

    def twin(self) -> Self:
        """A model of the same shape, with other values."""
        return type(self)(self.config)

    def penalty(self) -> Tensor | None:
        """What the last forward pass adds to the mean loss of its tokens (a balance of experts); None: nothing."""
        return None

    def after_step(self, add: Callable[[Sequence[float]], list[float]], moved: bool) -> None:
        """Once after each step of training: what a family counts, and changes by other means than gradients.

        add: sums over processes, which every process must ask for. moved: whether the optimiser moved the weights.
        """

    @classmethod
    @abstractmethod
    def tiny(cls, **changes: Any) -> Self:
        """A model for tests, with sizes that cannot be mistaken for one another; `changes` go into its Config."""

    @classmethod
    def from_hf(cls, found: dict[str, Any]) -> ModelConfig:
        """The Config that a Hugging Face config.json means. Raises UnsupportedModel listing all that is not computed here."""
        return cls.Config.from_hf(found)

    @classmethod
    def told(cls, config: Any, names: Collection[str]) -> Any:
        """The Config once the names of the tensors on disk are known; for families whose config.json leaves something open."""
        return config

    def name_here(self, name: str) -> str | None:
        """The parameter that a tensor on disk fills; None for a tensor that carries nothing. A tied head fills the embedding."""
        if name == "lm_head.weight" and self.config.tie_word_embeddings:
            return next(own for own, parameter in self.named_parameters() if parameter is self.embedding)
        return name

    def pieces(self, name: str) -> dict[str, Any]:
        """Where a tensor of ours lies on disk: names there, each with the index of the part that it holds.

        One name and all of it (`...`), but for tensors that checkpoints keep apart, such as experts that stand stacked here.
        Loading takes either layout; saving writes the pieces.
        """
        return {name: ...}

    def initialise(self, seed: int) -> None:
        """Give every parameter its first value, a pure function of (seed, parameter name)."""
        initialise(self, seed, self.spread, self.constant, self.first)

    def first(self, name: str, parameter: nn.Parameter, generator: torch.Generator) -> Tensor | None:
        """First values of a parameter with a rule of its own; None: as `spread` or `constant` say."""
        return None

    def spread(self, name: str, parameter: nn.Parameter) -> float:
        """Standard deviation of a matrix at the start; matrices that write to the residual stream start smaller."""
        return self.config.initializer_range / ((2 * self.config.depth) ** 0.5 if name.endswith(self.writers) else 1.0)

    def constant(self, name: str) -> float:
        """Value of a vector at the start: norm weights one, biases zero."""
        return 1.0 if name.endswith("weight") else 0.0

    @property
    def compute_dtype(self) -> torch.dtype | None:
        """Type of the matrix products where it is not the weights' own; see precision.py. Setting it tells the norms."""
        return self._compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, dtype: torch.dtype | None) -> None:
        self._compute_dtype = dtype
        for part in self.modules():
            if part is not self and hasattr(type(part), "compute_dtype"):
                part.compute_dtype = dtype  # type: ignore[union-attr,assignment]

    @property
    def activation_dtype(self) -> torch.dtype:
        """Type of the matrix products, and of what decoding remembers."""
        return self.compute_dtype or self.embedding.dtype

    def matmul_parameters(self) -> int:
        """Weights that take part in a matrix product for every token: all matrices but look-up tables; a tied head counts."""
        tables = {id(part.weight) for part in self.modules() if type(part).__name__ == "Embedding"} - {id(self.output_weight)}
        return sum(part.numel() for part in self.parameters() if part.dim() >= 2 and id(part) not in tables) + self._in_codes

    @property
    def _in_codes(self) -> int:
        """Weights of frozen matrices that are held in few bits and are no parameters."""
        return sum(part.shape.numel() for part in self.modules() if isinstance(part, SmallFrozen))

    def flops_per_token(self, row_tokens: int) -> float:
        """Arithmetic of one training token: 6 a matmul weight, and attention counted as the full square.

        Source: PaLM (arXiv:2204.02311), appendix B.
        """
        return 6.0 * self.matmul_parameters() + 12.0 * self.config.depth * self.config.attention_width * row_tokens


class CausalLM(LanguageModel):
    """Reads from left to right: each token knows those before it, and a memory makes the next one cheap."""

    one_way: ClassVar[bool] = False
    """Whether nothing of a text can be seen both ways: what scans or counts has no prefix to read."""
    ahead: int = 0
    """Places that a memory holds before the text, where an adapter puts something there (models/adapters/soft.py)."""

    @abstractmethod
    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Vectors after the final norm, (B, T, D).

        documents_BT: which packed document a token belongs to, non-decreasing along a row; None: each row is one document.
        Attention never crosses documents and positions restart in each.
        prefix_BT: booleans, tokens that see one another both ways; a family that reads in one direction only raises ValueError.
        state: what came before; the new tokens are appended to it. Raises ValueError when both are given.
        """

    def forward(self, ids_BT: Tensor, *, documents_BT: Tensor | None = None, state: State | None = None) -> Tensor:
        """Logits of the token after each, (B, T, V)."""
        return self.logits(self.hidden(ids_BT, documents_BT=documents_BT, state=state))

    def new_state(self, batch: int, capacity: int) -> State:
        """An empty memory for `batch` rows with room for `capacity` tokens each; it grows when they are exceeded.

        Here for families each of whose heads has keys of its own; others say what they keep.
        """
        config = self.config
        heads = getattr(config, config.sizes["heads"])
        return State.full(
            config.depth, batch, heads, config.width // heads,
            capacity=capacity, dtype=self.activation_dtype, device=self.device,
        )  # fmt: skip


class MaskedLM(LanguageModel):
    """Sees the whole document, both ways, and names the tokens that were hidden.

    Its head is a transform of the vector, then a product with the output weight, then a bias for each token.
    """

    @abstractmethod
    def hidden(self, ids_BT: Tensor, *, documents_BT: Tensor | None = None) -> Tensor:
        """Vectors after the last layer, (B, T, D). Documents as for CausalLM; filling is a document of its own."""

    def transformed(self, hidden: Tensor) -> Tensor:
        """What the head does with a vector before the product, (..., D) -> (..., D)."""
        return hidden

    def matmul_parameters(self) -> int:
        """As for every model, but without the output weight: only hidden tokens meet it."""
        tables = {id(self.output_weight), *(id(part.weight) for part in self.modules() if type(part).__name__ == "Embedding")}
        return sum(part.numel() for part in self.parameters() if part.dim() >= 2 and id(part) not in tables) + self._in_codes

    @property
    def output_bias(self) -> Tensor | None:
        """Added to the logits, (V,); None where the family has none."""
        return None

    def logits(self, hidden: Tensor) -> Tensor:
        bias, x = self.output_bias, self.transformed(hidden)
        return F.linear(x, self.output_weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    def to_head(self, hidden_ND: Tensor) -> tuple[Tensor, dict[str, Any]]:
        return self.transformed(hidden_ND), {"bias_V": self.output_bias}

    def cross_entropy_sum(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """As for every model; the head works on labelled tokens alone, which are few."""
        labelled = targets_N != NO_LABEL
        return super().cross_entropy_sum(hidden_ND[labelled], targets_N[labelled])

    def forward(self, ids_BT: Tensor, *, documents_BT: Tensor | None = None) -> Tensor:
        """Logits of each token itself, (B, T, V)."""
        return self.logits(self.hidden(ids_BT, documents_BT=documents_BT))


class Seq2SeqLM(LanguageModel):
    """An encoder reads a source both ways; a decoder writes, looking at the source and at what it has written."""

    @abstractmethod
    def encode(self, source_BS: Tensor, *, documents_BS: Tensor | None = None) -> Tensor:
        """Vectors of the source after the encoder, (B, S, D)."""

    @abstractmethod
    def hidden(
        self,
        ids_BT: Tensor,
        *,
        source_BSD: Tensor | None = None,
        documents_BT: Tensor | None = None,
        source_documents_BS: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Vectors after the decoder, (B, T, D). A token sees the part of the source that has its document's number.

        Without documents_BT a row sees the first document of its source; what follows there is filling. A document that has
        no source looks at nothing.
        state: what was written before; the source is taken from it once it holds one. Raises ValueError without a source.
        """

    def forward(
        self,
        ids_BT: Tensor,
        *,
        source_BS: Tensor,
        documents_BT: Tensor | None = None,
        source_documents_BS: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token after each, (B, T, V)."""
        source_BSD = self.encode(source_BS, documents_BS=source_documents_BS)
        return self.logits(
            self.hidden(ids_BT, source_BSD=source_BSD, documents_BT=documents_BT, source_documents_BS=source_documents_BS)
        )

    @abstractmethod
    def new_state(self, batch: int, capacity: int) -> State:
        """An empty memory of what is written, and of the source's keys and values."""
