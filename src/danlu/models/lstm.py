"""Long short-term memory (Hochreiter and Schmidhuber 1997) as a language model (Zaremba et al. 2014, arXiv:1409.2329).

Layers of nn.LSTM, with forget gates (Gers et al. 2000), between an embedding and a head that shares it (arXiv:1608.05859),
through a projection where widths differ. What a Transformer looks up in everything it has read, this keeps in 2 x width
numbers a layer: memory does not grow with the text, and training walks along it token by token. Leaves out Zaremba's
dropout: a run here sees its text about once.
B rows, T tokens, P = B T places, D width, E width of the embedding.
"""

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.models.recurrent import RecurrentConfig
from danlu.nn.linear import Embedding, Linear
from danlu.nn.mask import Sight, positions
from danlu.nn.state import RecurrentState, State


@MODELS.register
class LSTM(CausalLM):
    """Saved in Danlu's own folder format, `model_type` danlu_lstm; the layers' tensors are named as nn.LSTM names them."""

    one_way = True

    class Config(RecurrentConfig):
        hf_type: ClassVar[str] = "danlu_lstm"
        hf_class: ClassVar[str] = "DanluLSTM"
        required: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "num_hidden_layers")
        sizes: ClassVar[dict[str, str]] = {
            "width": "hidden_size", "layers": "num_hidden_layers", "context": "max_position_embeddings",
        }  # fmt: skip
        ties: ClassVar[bool] = True

        name: Literal["lstm"] = "lstm"  # type: ignore[assignment]  # narrows
        hidden_size: int = Field(650, gt=0)
        """Channels of each layer's memory; 650 and 1500 are Zaremba's medium and large."""
        num_hidden_layers: int = Field(2, gt=0)
        """Layers."""
        embedding_size: int | None = Field(None, gt=0)
        """Channels of a token's vector; null: hidden_size."""
        max_position_embeddings: int = Field(512, gt=0)
        """Most tokens a row is made for."""

        @property
        def token_width(self) -> int:
            """Channels of a token's vector, resolved."""
            return self.embedding_size or self.hidden_size

        @property
        def width(self) -> int:
            """Channels of what the head reads."""
            return self.token_width if self.tie_word_embeddings else self.hidden_size

    def __init__(self, config: Config, seed: int = 0):
        super().__init__(config)
        self.embed_tokens = Embedding(config.vocab_size, config.token_width)
        with torch.random.fork_rng(devices=[]):  # its own first values are drawn, and replaced below
            self.lstm = nn.LSTM(config.token_width, config.hidden_size, config.num_hidden_layers, batch_first=True)
        if config.width != config.hidden_size:
            self.projection = Linear(config.hidden_size, config.width)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size)
        self.initialise(seed)

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        if prefix_BT is not None:
            raise ValueError("an LSTM reads from left to right only: it has no prefix that sees both ways")
        sight = Sight(ids_BT.size(1), state.length if state else 0, documents_BT)
        x_BTE = self.embed_tokens(ids_BT)
        if sight.mixed_rows is not None:
            assert documents_BT is not None
            y_BTD = self._by_document(x_BTE, documents_BT)
        elif state is None:
            y_BTD, _ = self.lstm(x_BTE)
        else:
            y_BTD = self._going_on(x_BTE, state)
        y_BTD = self.projection(y_BTD) if hasattr(self, "projection") else y_BTD
        return y_BTD.to(self.activation_dtype)

    def _by_document(self, x_BTE: Tensor, documents_BT: Tensor) -> Tensor:
        """Each document from an empty memory, all of them side by side: first tokens together, second tokens together, ...

        This is the order of a PackedSequence, so documents of any lengths cost no padding.
        """
        at_P, longest = positions(documents_BT).flatten(), documents_BT.size(1)
        number_P = (at_P == 0).cumsum(0) - 1
        rank_P = torch.bincount(number_P).argsort(descending=True, stable=True).argsort()[number_P]
        order_P = (at_P * at_P.numel() + rank_P).argsort()
        sizes = torch.bincount(at_P, minlength=longest).cpu()
        packed, _ = self.lstm(PackedSequence(x_BTE.flatten(0, 1)[order_P], sizes[sizes > 0]))
        y_PD: Tensor = packed.data[order_P.argsort()]
        return y_PD.unflatten(0, documents_BT.shape)

    def _going_on(self, x_BTE: Tensor, state: State) -> Tensor:
        memory = [torch.stack([getattr(layer, name) for layer in state.layers]) for name in ("h", "c")]
        y_BTD, (h, c) = self.lstm(x_BTE, tuple(memory))
        for index, layer in enumerate(state.layers):
            layer.h, layer.c = h[index], c[index]
        state.length += x_BTE.size(1)
        return y_BTD

    @property
    def embedding(self) -> nn.Parameter:
        return self.embed_tokens.weight

    def spread(self, name: str, parameter: nn.Parameter) -> float:
        """Matrices of the layers spread as nn.LSTM's own (uniform to 1 / root of the width), a projection keeps sizes."""
        own = {"lstm": (3 * self.config.hidden_size) ** -0.5, "projection": self.config.hidden_size**-0.5}
        return float(own.get(name.partition(".")[0], self.config.initializer_range))

    def initialise(self, seed: int) -> None:
        """Forget gates begin open, by a bias of one (Jozefowicz et al. 2015): else a new model forgets half at each token."""
        super().initialise(seed)
        width = self.config.hidden_size
        for name, bias in self.lstm.named_parameters():
            if name.startswith("bias_ih") and not bias.is_meta:
                with torch.no_grad():
                    bias[width : 2 * width] = 1.0

    def new_state(self, batch: int, capacity: int) -> State:
        def empty() -> Tensor:
            return torch.zeros(batch, self.config.hidden_size, dtype=self.embedding.dtype, device=self.device)

        return State([RecurrentState(h=empty(), c=empty()) for _ in range(self.config.num_hidden_layers)])

    @classmethod
    def tiny(cls, **changes: Any) -> Self:
        sizes = {"vocab_size": 31, "hidden_size": 24, "embedding_size": 14, "num_hidden_layers": 2, "max_position_embeddings": 64,
                 "initializer_range": 0.2}  # fmt: skip
        return cls(cls.Config(**{**sizes, **changes}))
